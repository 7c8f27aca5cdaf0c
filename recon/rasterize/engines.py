"""The engines by name, and which one is the fastest that works here."""

import functools
import importlib
import warnings
from typing import NamedTuple, cast

import torch
from torch import Tensor

from recon.rasterize.contract import Engine

ENGINES = {
    "cpu": "recon.rasterize.cpu_engine",
    "torch": "recon.rasterize.torch_engine",
    "gsplat": "recon.rasterize.gsplat_engine",
}
"""Modules by the engine's name, imported when first used; each is an
:class:`~recon.rasterize.contract.Engine`."""


class AutoEngine(NamedTuple):
    """What ``engine="auto"`` is, and why."""

    name: str
    """A name in :data:`ENGINES`."""
    why: str
    """One line."""
    fallback: bool
    """Whether a faster engine was meant to render these tensors, but does not work here."""


def auto_engine(device: torch.device | str, dtype: torch.dtype = torch.float32) -> AutoEngine:
    """Choose the fastest engine that renders tensors of this kind on this machine."""
    kind = torch.device(device).type
    if dtype != torch.float32 or kind not in ("cpu", "cuda"):
        return AutoEngine("torch", f"the only engine for {dtype} on {kind}", fallback=False)
    if kind == "cuda":
        from recon.rasterize.gsplat_engine import unavailable

        name, reason = "gsplat", unavailable()
        strength = "CUDA kernels"
    else:
        from recon.rasterize.cpu_library import describe, unavailable

        name, reason = "cpu", unavailable()
        strength = "" if reason else f"compiled, {describe()}"
    if reason is not None:
        return AutoEngine("torch", f"engine '{name}' does not work here: {reason}", fallback=True)
    return AutoEngine(name, strength, fallback=False)


def load_engine(name: str, means: Tensor) -> Engine:
    """Import an engine; "auto" is the one that suits ``means``.

    Raises:
        ValueError: no engine of this name.
    """
    if name == "auto":
        choice = auto_engine(means.device, means.dtype)
        if choice.fallback:
            _warn_once(f"rendering slowly with engine 'torch': {choice.why}")
        name = choice.name
    if name not in ENGINES:
        raise ValueError(f"unknown engine '{name}'; valid: auto, {', '.join(ENGINES)}")
    return cast(Engine, importlib.import_module(ENGINES[name]))


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=5)  # at the caller of rasterize
