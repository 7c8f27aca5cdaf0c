"""Pinhole cameras: world-to-camera matrices, pixel intrinsics, rays and projection.

Conventions (docs/conventions.md): OpenCV axes (x right, y down, z forward); ``viewmats`` are 4x4
world-to-camera transforms (cam_from_world, rotation and translation only); ``Ks`` are 3x3
intrinsics in pixels, the principal point measured from the top-left *corner* of the image, so that
the centre of pixel (row, col) lies at (col + 0.5, row + 0.5). Skew is not supported.

Everything here is written with elementwise products and sums, never with matmul: neither autocast
nor TF32 may touch geometry (in bfloat16, rays of neighbouring columns collapse beyond 128 pixels).
"""

from typing import NamedTuple

import torch
from torch import Tensor


def compose(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of [..., n, k] and [..., k, m] at the full precision of the inputs."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def invert_rigid(T: Tensor) -> Tensor:
    """Invert rigid transforms [..., 4, 4]: [R | t] becomes [R^T | -R^T t].

    Raises:
        ValueError: another shape.
    """
    _require_shape("T", T, (4, 4))
    R_inverse = T[..., :3, :3].transpose(-1, -2)
    t_inverse = -compose(R_inverse, T[..., :3, 3:])
    return torch.cat([torch.cat([R_inverse, t_inverse], -1), T[..., 3:, :]], -2)


def relative_to_first(viewmats: Tensor) -> Tensor:
    """Express cameras [..., V, 4, 4] in the first one's frame: the first becomes the identity.

    Raises:
        ValueError: another shape.
    """
    _require_shape("viewmats", viewmats, (4, 4), batch="V")
    moved = compose(viewmats, invert_rigid(viewmats[..., :1, :, :]))
    # The product of a matrix with its inverse is the identity only up to rounding.
    identity = torch.eye(4, dtype=moved.dtype, device=moved.device).expand_as(moved[..., :1, :, :])
    return torch.cat([identity, moved[..., 1:, :, :]], -3)


def Ks_from_normalized(fxfycxcy: Tensor, width: int, height: int) -> Tensor:
    """Turn normalised intrinsics [..., 4] into pixel Ks [..., 3, 3].

    Args:
        fxfycxcy: fx and cx as shares of the width, fy and cy of the height.
        width, height: of the image, in pixels.

    Raises:
        ValueError: another shape.
    """
    if fxfycxcy.ndim < 1 or fxfycxcy.shape[-1] != 4:
        raise ValueError(f"fxfycxcy must be [..., 4], not {tuple(fxfycxcy.shape)}")
    fx, fy, cx, cy = fxfycxcy.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [fx * width, zero, cx * width, zero, fy * height, cy * height, zero, zero, one]
    return torch.stack(rows, -1).reshape(*fxfycxcy.shape[:-1], 3, 3)


class ResizeCrop(NamedTuple):
    """A resize to ``width`` x ``height`` and a crop whose top-left pixel is (``left``, ``top``)."""

    width: int
    height: int
    left: int
    top: int


def resize_crop_geometry(width: int, height: int, new_width: int, new_height: int) -> ResizeCrop:
    """Plan the smallest resize that covers the new size, and the centre crop that follows it."""
    scale = max(new_width / width, new_height / height)
    resized_width = max(new_width, round(width * scale))
    resized_height = max(new_height, round(height * scale))
    return ResizeCrop(
        resized_width,
        resized_height,
        (resized_width - new_width) // 2,
        (resized_height - new_height) // 2,
    )


def resize_crop_intrinsics(
    Ks: Tensor, width: int, height: int, new_width: int, new_height: int
) -> Tensor:
    """Follow :func:`resize_crop_geometry` with intrinsics [..., 3, 3] of the original image.

    Raises:
        ValueError: another shape.
    """
    _require_shape("Ks", Ks, (3, 3))
    plan = resize_crop_geometry(width, height, new_width, new_height)
    scale = Ks.new_tensor([plan.width / width, plan.height / height, 1.0])
    shift = torch.zeros_like(Ks)
    shift[..., 0, 2] = plan.left
    shift[..., 1, 2] = plan.top
    return Ks * scale[:, None] - shift


def camera_rays(
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    samples: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Rays through pixel centres, in world coordinates.

    Args:
        viewmats: [..., V, 4, 4] world-to-camera.
        Ks: [..., V, 3, 3] in pixels of the ``width x height`` image.
        width: image width in pixels.
        height: image height in pixels.
        samples: (rows, columns) of an even grid over the image instead of one ray per pixel; rays
            go through the centres of its cells.

    Returns:
        origins (the camera centres, a broadcast view) and unit directions, both
        [..., V, rows, columns, 3] in float32 whatever the dtype of the inputs.

    Raises:
        ValueError: shapes that do not fit.
    """
    _require_shape("viewmats", viewmats, (4, 4), batch="V")
    _require_shape("Ks", Ks, (3, 3), batch="V")
    if viewmats.shape[:-2] != Ks.shape[:-2]:
        raise ValueError(
            f"viewmats {tuple(viewmats.shape)} and Ks {tuple(Ks.shape)} must have the same leading "
            "shape"
        )
    rows, columns = samples if samples is not None else (height, width)
    viewmats, Ks = viewmats.float(), Ks.float()
    u = (torch.arange(columns, device=Ks.device) + 0.5) * (width / columns)  # [columns]
    v = (torch.arange(rows, device=Ks.device) + 0.5) * (height / rows)  # [rows]
    x = (u - Ks[..., 0, 2, None]) / Ks[..., 0, 0, None]  # [..., V, columns]
    y = (v - Ks[..., 1, 2, None]) / Ks[..., 1, 1, None]  # [..., V, rows]
    x, y = x[..., None, :, None], y[..., :, None, None]
    right, down, forward = viewmats[..., None, None, :3, :3].unbind(-2)  # rows of R: camera axes
    directions = x * right + y * down + forward  # [..., V, rows, columns, 3]
    directions = directions / directions.norm(dim=-1, keepdim=True)
    centres = invert_rigid(viewmats)[..., None, None, :3, 3]
    return centres.expand_as(directions), directions


def pluecker_rays(
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    samples: tuple[int, int] | None = None,
) -> Tensor:
    """Pluecker coordinates (moment o x d, unit direction d) of :func:`camera_rays`.

    Returns:
        [..., V, 6, rows, columns], float32.

    Raises:
        ValueError: shapes that do not fit.
    """
    origins, directions = camera_rays(viewmats, Ks, width, height, samples=samples)
    moments = torch.linalg.cross(origins, directions)
    return torch.cat([moments, directions], -1).movedim(-1, -3)


def project(points: Tensor, viewmats: Tensor, Ks: Tensor) -> tuple[Tensor, Tensor]:
    """Project world points into every camera.

    Args:
        points: [..., N, 3].
        viewmats: [..., V, 4, 4], leading dimensions as ``points``.
        Ks: [..., V, 3, 3].

    Returns:
        pixel positions [..., V, N, 2] and depths (camera z) [..., V, N]. Points behind a camera
        (depth <= 0) keep the numbers of the formula; check the depth before using the position.

    Raises:
        ValueError: shapes that do not fit.
    """
    if points.ndim < 2 or points.shape[-1] != 3:
        raise ValueError(f"points must be [..., N, 3], not {tuple(points.shape)}")
    _require_shape("viewmats", viewmats, (4, 4), batch="V")
    _require_shape("Ks", Ks, (3, 3), batch="V")
    x, y, z = points[..., None, :, :, None].unbind(-2)  # [..., 1, N, 1]
    R = viewmats[..., None, :3, :3]  # [..., V, 1, 3, 3]
    in_camera = x * R[..., 0] + y * R[..., 1] + z * R[..., 2] + viewmats[..., None, :3, 3]
    depths = in_camera[..., 2]  # [..., V, N]
    focal = torch.stack([Ks[..., 0, 0], Ks[..., 1, 1]], -1)[..., None, :]  # [..., V, 1, 2]
    pixels = in_camera[..., :2] / depths[..., None] * focal + Ks[..., None, :2, 2]
    return pixels, depths


def _require_shape(name: str, tensor: Tensor, last: tuple[int, int], batch: str = "") -> None:
    if tensor.ndim < 2 + bool(batch) or tuple(tensor.shape[-2:]) != last:
        expected = ", ".join(["...", *([batch] if batch else []), *map(str, last)])
        raise ValueError(f"{name} must be [{expected}], not {tuple(tensor.shape)}")
