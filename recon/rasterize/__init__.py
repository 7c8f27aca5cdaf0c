"""Draw 3D Gaussians into cameras: one function, several engines.

The picture is defined by gsplat 1.5's classic ``rasterization``: EWA projection with 0.3 px^2 of
blur, alpha = min(0.999, opacity * exp(-sigma)) evaluated at pixel centres, contributions below
1/255 skipped, front to back by camera z (ties in input order), a Gaussian that would leave a
transmittance of 1e-4 or less ends the pixel and is not drawn. All engines agree on it: ``cpu`` is
compiled (csrc/), ``gsplat`` draws on CUDA, and ``torch`` is the reference for both, on any device.
"""

import functools
import importlib
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

ENGINES = {
    "cpu": "recon.rasterize.cpu_engine",
    "torch": "recon.rasterize.torch_engine",
    "gsplat": "recon.rasterize.gsplat_engine",
}
"""Engines by name, imported when first used. Each module has a function ``render`` that takes the
positional arguments of :func:`rasterize` up to ``height`` (one scene; any values), then near, far
and background (None, [C] or [V, C]), and returns image [V, H, W, C], depth and alpha [V, H, W]."""


class Rendered(NamedTuple):
    """Pictures of V views."""

    image: Tensor
    """[..., V, H, W, C]."""
    depth: Tensor
    """[..., V, H, W] expected camera z, in world units: the mean over what was blended; 0 where
    nothing was. Times alpha it is the accumulated depth."""
    alpha: Tensor
    """[..., V, H, W] share of the background that is hidden, in [0, 0.9999]."""


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near: float = 0.01,
    far: float = 1e10,
    background: Tensor | None = None,
    engine: str = "auto",
) -> Rendered:
    """Draw G Gaussians into V views. Differentiable in every tensor but Ks on gsplat.

    All tensors may have one more leading dimension: a batch of scenes, each with its own cameras.

    A Gaussian is left out, with zero gradients, when one of its values is NaN or infinite, its
    quaternion is zero, its opacity is below 1/255, its centre has a camera z outside [near, far],
    or it reaches no pixel centre. A scale of zero is legal: such a point is drawn as the
    0.3 px^2 blur alone. Zero Gaussians give the background.

    Args:
        means: [G, 3] centres in world units.
        quats: [G, 4] rotations w, x, y, z, normalised here.
        scales: [G, 3] standard deviations in world units, >= 0.
        opacities: [G] in [0, 1].
        colors: [G, C], any number of channels >= 1, any range.
        viewmats: [V, 4, 4] rigid world-to-camera transforms, OpenCV axes.
        Ks: [V, 3, 3] intrinsics in pixels, principal point from the top-left corner, no skew.
        width: image width in pixels.
        height: image height in pixels.
        near: smallest camera z that is drawn, > 0.
        far: largest camera z that is drawn.
        background: [C] or [V, C], black when omitted.
        engine: "auto" or a name in :data:`ENGINES`; :func:`auto_engine` says what "auto" is.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, cameras that are not finite or have
            no positive focal length, an unknown engine, or an engine that cannot draw these
            tensors.
    """
    tensors = {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "colors": colors,
        "viewmats": viewmats,
        "Ks": Ks,
    }
    if background is not None:
        tensors["background"] = background
    if means.ndim == 3:
        return _rasterize_scenes(tensors, width, height, near=near, far=far, engine=engine)
    _check(tensors, width, height, near, far)
    draw = _load(engine, means)
    with torch.autocast(means.device.type, enabled=False):
        return Rendered(
            *draw(
                *(means, quats, scales, opacities, colors, viewmats, Ks),
                *(width, height, near, far, background),
            )
        )


class AutoEngine(NamedTuple):
    """What ``engine="auto"`` is, and why."""

    name: str
    """A name in :data:`ENGINES`."""
    why: str
    """One line."""
    fallback: bool
    """Whether a faster engine was meant to draw these tensors, but does not work here."""


def auto_engine(device: torch.device | str, dtype: torch.dtype = torch.float32) -> AutoEngine:
    """The fastest engine that draws such tensors on this machine."""
    kind = torch.device(device).type
    if dtype != torch.float32 or kind not in ("cpu", "cuda"):
        return AutoEngine("torch", f"the only engine for {dtype} on {kind}", fallback=False)
    if kind == "cuda":
        from .gsplat_engine import unavailable

        name, reason = "gsplat", unavailable()
        strength = "CUDA kernels"
    else:
        from .cpu_library import describe, unavailable

        name, reason = "cpu", unavailable()
        strength = "" if reason else f"compiled, {describe()}"
    if reason is not None:
        return AutoEngine("torch", f"engine '{name}' does not work here: {reason}", fallback=True)
    return AutoEngine(name, strength, fallback=False)


def _load(name: str, means: Tensor) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    if name == "auto":
        choice = auto_engine(means.device, means.dtype)
        if choice.fallback:
            _warn_once(f"drawing slowly with engine 'torch': {choice.why}")
        name = choice.name
    if name not in ENGINES:
        raise ValueError(f"unknown engine '{name}'; valid: auto, {', '.join(ENGINES)}")
    return importlib.import_module(ENGINES[name]).render


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _rasterize_scenes(tensors: dict[str, Tensor], width: int, height: int, **options) -> Rendered:
    """Draw a batch of scenes one by one. A background [C] is that of all."""
    scenes = len(tensors["means"])
    shared = {}
    background = tensors.get("background")
    if background is not None and background.ndim == 1:
        shared = {"background": background}
    batched = {name: t for name, t in tensors.items() if name not in shared}
    for name, tensor in batched.items():
        if tensor.ndim < 1 or len(tensor) != scenes:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, expected {scenes} scenes as means "
                f"{tuple(tensors['means'].shape)} has"
            )
    if scenes == 0:
        raise ValueError("a batch must hold at least one scene")
    drawn = [
        rasterize(
            **{name: t[i] for name, t in batched.items()},
            **shared,
            width=width,
            height=height,
            **options,
        )
        for i in range(scenes)
    ]
    return Rendered(*(torch.stack(maps) for maps in zip(*drawn, strict=True)))


def _check(tensors: dict[str, Tensor], width: int, height: int, near: float, far: float) -> None:
    means, viewmats, colors = (tensors[name] for name in ("means", "viewmats", "colors"))
    _check_shape("means", means, (None, 3))
    _check_shape("viewmats", viewmats, (None, 4, 4))
    _check_shape("colors", colors, (len(means), None), "means", means)
    _check_shape("quats", tensors["quats"], (len(means), 4), "means", means)
    _check_shape("scales", tensors["scales"], (len(means), 3), "means", means)
    _check_shape("opacities", tensors["opacities"], (len(means),), "means", means)
    _check_shape("Ks", tensors["Ks"], (len(viewmats), 3, 3), "viewmats", viewmats)
    if colors.shape[1] == 0:
        raise ValueError(f"colors {tuple(colors.shape)} must have at least one channel")
    background = tensors.get("background")
    if background is not None:
        channels = colors.shape[1]
        allowed = (channels,) if background.ndim == 1 else (len(viewmats), channels)
        _check_shape("background", background, allowed, "colors", colors)
    for name, tensor in tensors.items():
        if tensor.dtype != means.dtype or tensor.device != means.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device} but means is {means.dtype} on "
                f"{means.device}: all tensors must agree"
            )
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"tensors must be float32 or float64, not {means.dtype}")
    # As lists: for a few cameras, tensor operations take longer than all else here.
    poses, lenses = viewmats.flatten().tolist(), tensors["Ks"].flatten().tolist()
    if not all(map(math.isfinite, poses + lenses)):
        raise ValueError("viewmats and Ks must be finite, but hold NaN or infinity")
    if not all(focal > 0 for focal in lenses[0::9] + lenses[4::9]):
        raise ValueError("Ks must have focal lengths above 0 in entries [0, 0] and [1, 1]")
    if width < 1 or height < 1:
        raise ValueError(f"the image must have pixels, not {width} x {height}")
    if not 0 < near < far:
        raise ValueError(f"near and far must satisfy 0 < near < far, not {near} and {far}")


def _check_shape(
    name: str,
    tensor: Tensor,
    expected: tuple[int | None, ...],
    other: str | None = None,
    beside: Tensor | None = None,
) -> None:
    """Compare with ``expected`` (None = any), naming the tensor that sets the expectation."""
    fits = tensor.ndim == len(expected) and all(
        want in (None, got) for want, got in zip(expected, tensor.shape, strict=True)
    )
    if not fits:
        shape = str(expected).replace("None", "*")
        reason = f" to fit {other} {tuple(beside.shape)}" if beside is not None else ""
        raise ValueError(f"{name} is {tuple(tensor.shape)}, expected {shape}{reason}")
