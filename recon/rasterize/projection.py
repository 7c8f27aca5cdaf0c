"""Perspective (EWA) projection of 3D Gaussians to the image plane, as gsplat 1.5 does it."""

from typing import NamedTuple

import torch
from torch import Tensor

from recon.rasterize.contract import Camera, Meta, Splats
from recon.rotations import matrices_from_quats

# A contribution below one step of an 8-bit picture is not blended.
ALPHA_MIN = 1 / 255
# Pixels^2 added to both axes of every footprint, so that none falls between pixel centres.
BLUR = 0.3
# The local affine approximation is evaluated no further than this share of the field of view
# beyond the edges of the image: further out it would blow footprints up without bound.
EDGE_MARGIN = 0.3


class Projected(NamedTuple):
    """The M Gaussians that can touch the image, nearest first (ties in input order)."""

    ids: Tensor
    """[M] index of each in the input."""
    means2d: Tensor
    """[M, 2] centres in pixels."""
    conics: Tensor
    """[M, 3] inverse 2D covariance: xx, xy, yy."""
    depths: Tensor
    """[M] camera z."""
    boxes: Tensor
    """[M, 4] first and last column, first and last row whose pixel centres can reach 1/255."""
    reach: Tensor
    """[M, 2] how far from its centre each can reach 1/255, in pixels along x and y, no gradient."""


def project_gaussians(splats: Splats, camera: Camera) -> Projected:
    """Project one scene into one camera and drop what cannot be seen. Differentiable.

    Dropped: a depth outside the planes, opacity below 1/255, a 2D covariance that is singular or
    overflows, a footprint (the ellipse inside which opacity * exp(-sigma) >= 1/255) without a pixel
    centre of the image.
    """
    means, quats, scales, opacities, _ = splats
    viewmat = camera.viewmat
    R = viewmat[:3, :3]
    # Written out, not as a matmul: TF32 must not touch geometry.
    in_camera = (
        means[:, 0:1] * R[:, 0] + means[:, 1:2] * R[:, 1] + means[:, 2:3] * R[:, 2] + viewmat[:3, 3]
    )
    z = in_camera[:, 2].detach()
    seen = (z >= camera.near_plane) & (z <= camera.far_plane) & (opacities.detach() >= ALPHA_MIN)
    ids = seen.nonzero()[:, 0]
    ids = ids[torch.argsort(z[ids], stable=True)]

    in_camera, quats, scales, opacities = (
        t.index_select(0, ids) for t in (in_camera, quats, scales, opacities)
    )
    with torch.no_grad():
        means2d, cov_xx, cov_xy, cov_yy = _footprint(in_camera, quats, scales, R, camera)
        determinant = cov_xx * cov_yy - cov_xy * cov_xy
        variances = torch.stack([cov_xx, cov_yy], -1)
        reach = (2 * torch.log(opacities.detach() / ALPHA_MIN)).sqrt()[:, None] * variances.sqrt()
        boxes, reached = _pixel_boxes(means2d, reach, camera)
        keep = (reached & (determinant > 0) & determinant.isfinite()).nonzero()[:, 0]

    # Computed again, with gradients, for those that stay: where a value of a dropped one overflows,
    # its zero gradient would become NaN on the way back.
    ids, boxes, reach, in_camera, quats, scales = (
        t.index_select(0, keep) for t in (ids, boxes, reach, in_camera, quats, scales)
    )
    means2d, cov_xx, cov_xy, cov_yy = _footprint(in_camera, quats, scales, R, camera)
    determinant = cov_xx * cov_yy - cov_xy * cov_xy
    adjugate = torch.stack([cov_yy, -cov_xy, cov_xx], -1)
    conics = adjugate / determinant[:, None]
    return Projected(ids, means2d, conics, in_camera[:, 2], boxes.long(), reach)


def meta_of(projected: list[Projected], count: int) -> Meta:
    """Spread what V >= 1 views see of ``count`` Gaussians to all of them, with zeros for the rest.

    Differentiable: to base pictures on the result's ``means2d``, select them by ``ids`` again.
    """
    means2d, depths, radii = [], [], []
    for ids, centres, _, z, _, reach in projected:
        means2d.append(centres.new_zeros(count, 2).index_copy(0, ids, centres))
        depths.append(z.new_zeros(count).index_copy(0, ids, z))
        # At least 1: an opacity of exactly 1/255 reaches nothing but its own centre.
        pixels = reach.ceil().clamp(min=1).int()
        radii.append(pixels.new_zeros(count, 2).index_copy(0, ids, pixels))
    return Meta(torch.stack(radii), torch.stack(means2d), torch.stack(depths))


def _footprint(
    in_camera: Tensor, quats: Tensor, scales: Tensor, R: Tensor, camera: Camera
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centres [M, 2] in pixels, and :func:`footprint_covariance`."""
    x, y, z = in_camera.unbind(-1)
    K = camera.K
    means2d = torch.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], -1)
    return means2d, *footprint_covariance(x, y, z, quats, scales, R, camera)


def footprint_covariance(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    quats: Tensor,
    scales: Tensor,
    R: Tensor,
    camera: Camera,
) -> tuple[Tensor, Tensor, Tensor]:
    """Blurred 2D covariance (xx, xy, yy) in pixels^2: A A^T + BLUR I, A = J R rotation scale."""
    K, width, height = camera.K, camera.width, camera.height
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = EDGE_MARGIN * 0.5 * width / fx, EDGE_MARGIN * 0.5 * height / fy
    slope_x = torch.clamp(x / z, -(cx / fx + margin_x), (width - cx) / fx + margin_x)
    slope_y = torch.clamp(y / z, -(cy / fy + margin_y), (height - cy) / fy + margin_y)
    # Rows of J R: the gradient of each pixel coordinate with respect to the world position.
    toward_x = (fx / z)[:, None] * (R[0] - slope_x[:, None] * R[2])  # [M, 3]
    toward_y = (fy / z)[:, None] * (R[1] - slope_y[:, None] * R[2])
    root = matrices_from_quats(quats) * scales[:, None, :]  # [M, 3, 3]
    a_x = (toward_x[:, :, None] * root).sum(1)  # [M, 3]
    a_y = (toward_y[:, :, None] * root).sum(1)
    return (a_x * a_x).sum(-1) + BLUR, (a_x * a_y).sum(-1), (a_y * a_y).sum(-1) + BLUR


def _pixel_boxes(means2d: Tensor, reach: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Pixel box of every footprint, clipped to the image, and whether it holds a pixel at all."""
    # The box may be too large but never too small by rounding: compositing tests every pixel.
    reach = reach * (1 + 1e-4) + 1e-3
    limit = means2d.new_tensor([camera.width - 1, camera.height - 1])
    first = torch.ceil(means2d - reach - 0.5).clamp(min=0)
    last = torch.minimum(torch.floor(means2d + reach - 0.5), limit)
    reached = (first <= last).all(-1)  # False for NaN
    return torch.stack([first, last], -1).flatten(-2), reached  # [M, 4]: x0 x1 y0 y1
