"""Refuses tensors and cameras that do not belong together, before an engine sees them."""

import math
import numbers
import os

import torch
from torch import Tensor

from recon.rasterize.contract import Cameras, Splats
from recon.rasterize.harmonics import num_bases


def checked_kinds(splats: Splats, cameras: Cameras, backgrounds: Tensor | None) -> Cameras:
    """Check that tensors are tensors and numbers are numbers.

    Returns:
        the cameras, with a far plane that the dtype of the scene can hold.

    Raises:
        ValueError: one of them is not.
    """
    tensors = {**splats._asdict(), "viewmats": cameras.viewmats, "Ks": cameras.Ks}
    if backgrounds is not None:
        tensors["backgrounds"] = backgrounds
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a tensor, not {type(value).__name__}")
    for name in ("width", "height"):
        value = getattr(cameras, name)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number of pixels, not {value!r}")
    for name in ("near_plane", "far_plane"):
        value = getattr(cameras, name)
        if not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be a number, not {value!r}")
    far_plane = cameras.far_plane
    if splats.means.is_floating_point():
        far_plane = min(far_plane, torch.finfo(splats.means.dtype).max)
    return cameras._replace(
        width=int(cameras.width), height=int(cameras.height), far_plane=far_plane
    )


def check_memory(what: str, needed: int, device: torch.device) -> None:
    """Refuse what cannot fit, before the system ends the process for trying.

    Args:
        what: begins the sentence: "pictures of ...".
        needed: bytes.
        device: where.

    Raises:
        ValueError: the device has less memory in all.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf"):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return
    if needed > total:
        raise ValueError(
            f"{what} need {needed / 2**30:.3g} GiB, but this machine's {device.type} has"
            f" {total / 2**30:.3g} GiB: render fewer Gaussians, fewer views or smaller images"
        )


def check_scene(splats: Splats, cameras: Cameras, backgrounds: Tensor | None) -> None:
    """Check one scene.

    Raises:
        ValueError: shapes, dtypes, devices or numbers that no engine can render.
    """
    means, colors, viewmats = splats.means, splats.colors, cameras.viewmats
    _check_shape("means", means, (None, 3))
    _check_shape("viewmats", viewmats, (None, 4, 4))
    coefficients = () if splats.sh_degree is None else (num_bases(splats.sh_degree),)
    _check_shape("colors", colors, (len(means), *coefficients, None), "means", means)
    _check_shape("quats", splats.quats, (len(means), 4), "means", means)
    _check_shape("scales", splats.scales, (len(means), 3), "means", means)
    _check_shape("opacities", splats.opacities, (len(means),), "means", means)
    _check_shape("Ks", cameras.Ks, (len(viewmats), 3, 3), "viewmats", viewmats)
    if splats.channels == 0:
        raise ValueError(f"colors {tuple(colors.shape)} must have at least one channel")
    tensors = {**splats._asdict(), "viewmats": viewmats, "Ks": cameras.Ks}
    if backgrounds is not None:
        channels = splats.channels
        allowed = (channels,) if backgrounds.ndim == 1 else (len(viewmats), channels)
        _check_shape("backgrounds", backgrounds, allowed, "colors", colors)
        tensors["backgrounds"] = backgrounds
    for name, tensor in tensors.items():
        if tensor.dtype != means.dtype or tensor.device != means.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device} but means is {means.dtype} on "
                f"{means.device}: all tensors must agree"
            )
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"tensors must be float32 or float64, not {means.dtype}")
    _check_numbers(cameras)
    if coefficients:
        _check_invertible(viewmats)
    if backgrounds is not None and not backgrounds.isfinite().all():
        raise ValueError("backgrounds must be finite, but hold NaN or infinity")
    views, (width, height) = len(viewmats), cameras[2:4]
    values = views * width * height * (splats.channels + 2)
    if values > 2**28:  # asking the system takes a while
        what = f"{views} pictures of {width} x {height} pixels and {splats.channels} channels"
        check_memory(what, values * means.element_size(), means.device)


def _check_numbers(cameras: Cameras) -> None:
    # As lists: for a few cameras, tensor operations take longer than all else here.
    viewmats, Ks = cameras.viewmats.flatten().tolist(), cameras.Ks.flatten().tolist()
    if not all(map(math.isfinite, viewmats + Ks)):
        raise ValueError("viewmats and Ks must be finite, but hold NaN or infinity")
    if not all(focal > 0 for focal in Ks[0::9] + Ks[4::9]):
        raise ValueError("Ks must have focal lengths above 0 in entries [0, 0] and [1, 1]")
    if cameras.width < 1 or cameras.height < 1:
        raise ValueError(f"the image must have pixels, not {cameras.width} x {cameras.height}")
    near_plane, far_plane = cameras.near_plane, cameras.far_plane
    if not 0 < near_plane < far_plane:
        raise ValueError(
            "near_plane and far_plane must satisfy 0 < near_plane < far_plane, "
            f"not {near_plane} and {far_plane}"
        )


def _check_invertible(viewmats: Tensor) -> None:
    """Refuse cameras that are nowhere: from there nothing has a direction."""
    determinants = torch.linalg.det(viewmats.detach()[:, :3, :3].cpu().double()).tolist()
    for view, determinant in enumerate(determinants):
        if not 1e-9 < abs(determinant) < 1e9:
            raise ValueError(
                f"viewmats must be rigid for spherical harmonics, but the upper left 3 x 3 of view "
                f"{view} has the determinant {determinant:.3g}"
            )


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
