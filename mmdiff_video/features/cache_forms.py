"""The number formats that the feature cache keeps maps in."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mmdiff_video.errors import unknown_name


class CacheForm(ABC):
    """Packs a map for the disk; a run sees what is unpacked, whether the cache is warm or cold."""

    name: ClassVar[str]

    @abstractmethod
    def pack(self, tap: str, features: Tensor) -> dict[str, Tensor]:
        """[T, C, F, H, W] -> tensors by name; each name holds the tap's."""

    @abstractmethod
    def unpack(self, tap: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """Inverse of :meth:`pack`, to the form's tolerance."""

    @abstractmethod
    def nbytes(self, times: int, width: int, places: int) -> int:
        """Bytes of one packed map of T = ``times``, C = ``width``, F * H * W = ``places``."""


class Bf16Form(CacheForm):
    """Two bytes a value. Exact for a backbone that computes in bf16, else relative error 2^-9."""

    name = "bf16"

    def pack(self, tap: str, features: Tensor) -> dict[str, Tensor]:
        return {f"maps.{tap}": features.to(torch.bfloat16)}

    def unpack(self, tap: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors[f"maps.{tap}"]

    def nbytes(self, times: int, width: int, places: int) -> int:
        return 2 * times * width * places


class Fp8Form(CacheForm):
    """One byte a value (e4m3, 3 bits of mantissa), scaled so that each channel fills the range.

    The scale is the largest magnitude of a (timestep, channel) over 448, the format's largest
    number. A value x of a channel with the largest magnitude m comes back with an error of at most
    ``max(abs(x) / 16, m * 2.2e-6)``, and one of bf16 where the backbone computes in it.
    """

    name = "fp8"

    def pack(self, tap: str, features: Tensor) -> dict[str, Tensor]:
        features = features.float()
        largest = features.abs().amax(dim=(2, 3, 4))  # [T, C]
        scale = (largest / torch.finfo(torch.float8_e4m3fn).max).clamp_min(1e-30)
        scaled = features / scale[..., None, None, None]
        return {f"maps.{tap}": scaled.to(torch.float8_e4m3fn), f"scales.{tap}": scale}

    def unpack(self, tap: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors[f"maps.{tap}"].float() * tensors[f"scales.{tap}"][..., None, None, None]

    def nbytes(self, times: int, width: int, places: int) -> int:
        return times * width * (places + 4)


_FORMS: dict[str, CacheForm] = {form.name: form for form in (Bf16Form(), Fp8Form())}


def cache_form(name: str) -> CacheForm:
    """Find a form by its name: ``bf16`` or ``fp8``.

    Raises:
        InputError: there is none of that name.
    """
    if name not in _FORMS:
        raise unknown_name("cache form", name, _FORMS)
    return _FORMS[name]
