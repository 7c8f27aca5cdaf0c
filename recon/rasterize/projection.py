"""Perspective (EWA) projection of 3D Gaussians to the image plane, as gsplat 1.5 does it.

It is computed in float64, whatever the scene is in: the footprint of a needle, 1000 pixels long and
one wide, hangs on the last digits of its covariance. Nothing that cancels is computed at all: the
determinant is a sum of squares, and the inverse covariance stays in factors.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.rasterize.contract import Camera, Meta, Splats
from recon.rotations import matrices_from_quats

# A contribution below one step of an 8-bit picture is not blended.
ALPHA_MIN = 1 / 255
# Pixels^2 added to both axes of every footprint, so that none falls between pixel centres.
BLUR = 0.3
# The local affine approximation is evaluated no further than this share of the field of view
# beyond the edges of the image: further out it would blow footprints up without bound.
EDGE_MARGIN = 0.3
# The largest float32 that an int32 holds.
_LARGEST_RADIUS = 2**31 - 128


class Projected(NamedTuple):
    """The M Gaussians that can touch the image, nearest first (ties in input order).

    Floating-point values are float64 (float32 on a device that has no float64).
    """

    ids: Tensor
    """[M] index of each in the input."""
    means2d: Tensor
    """[M, 2] centres in pixels."""
    factors: Tensor
    """[M, 3] ux, uy, wy of :func:`whiten`: the inverse 2D covariance as a product, in 1/pixels."""
    depths: Tensor
    """[M] camera z."""
    boxes: Tensor
    """[M, 4] first and last column, first and last row whose pixel centres can reach 1/255."""
    reach: Tensor
    """[M, 2] how far from its centre each can reach 1/255, in pixels along x and y, no gradient."""

    @property
    def conics(self) -> Tensor:
        """[M, 3] inverse 2D covariance: xx, xy, yy. A needle's has lost what makes it thin."""
        ux, uy, wy = self.factors.unbind(-1)
        return torch.stack([ux * ux, ux * uy, uy * uy + wy * wy], -1)


def project_gaussians(splats: Splats, camera: Camera) -> Projected:
    """Project one scene into one camera and drop what cannot be seen. Differentiable.

    Dropped: a depth outside the planes, opacity below 1/255, a 2D covariance that is singular or
    overflows, a footprint (the ellipse inside which opacity * exp(-sigma) >= 1/255) without a pixel
    centre of the image.
    """
    means, quats, scales, *_ = in_float64(splats)
    viewmat, K = _exact(camera.viewmat), _exact(camera.K)
    camera = camera._replace(viewmat=viewmat, K=K)
    R = viewmat[:3, :3]
    # Written out, not as a matmul: TF32 must not touch geometry.
    in_camera = (
        means[:, 0:1] * R[:, 0] + means[:, 1:2] * R[:, 1] + means[:, 2:3] * R[:, 2] + viewmat[:3, 3]
    )
    z, opacities = in_camera[:, 2].detach(), splats.opacities.detach()
    seen = (z >= camera.near_plane) & (z <= camera.far_plane) & (opacities >= ALPHA_MIN)
    ids = seen.nonzero()[:, 0]
    ids = ids[torch.argsort(z[ids], stable=True)]

    in_camera, quats, scales, opacities = (
        t.index_select(0, ids) for t in (in_camera, quats, scales, opacities)
    )
    with torch.no_grad():
        means2d = _centres(in_camera, camera)
        a_x, a_y = footprint_axes(in_camera, quats, scales, camera)
        variances, determinant = _covariance(a_x, a_y)
        reach = (2 * torch.log(opacities / ALPHA_MIN)).sqrt()[:, None] * variances.sqrt()
        boxes, reached = _pixel_boxes(means2d, reach, camera)
        keep = (reached & (determinant > 0) & determinant.isfinite()).nonzero()[:, 0]

    # Computed again, with gradients, for those that stay: where a value of a dropped one overflows,
    # its zero gradient would become NaN on the way back.
    ids, boxes, reach, in_camera, quats, scales = (
        t.index_select(0, keep) for t in (ids, boxes, reach, in_camera, quats, scales)
    )
    means2d = _centres(in_camera, camera)
    factors = whiten(*footprint_axes(in_camera, quats, scales, camera))
    return Projected(ids, means2d, factors, in_camera[:, 2], boxes.long(), reach)


def in_float64(splats: Splats) -> Splats:
    """Geometry as :func:`project_gaussians` needs it.

    To be done once for all views, whose gradients are then added up in float64.
    """
    return splats._replace(
        means=_exact(splats.means), quats=_exact(splats.quats), scales=_exact(splats.scales)
    )


def meta_of(projected: list[Projected], count: int, dtype: torch.dtype) -> Meta:
    """Spread what V >= 1 views see of ``count`` Gaussians to all of them, with zeros for the rest.

    Differentiable: to base pictures on the result's ``means2d``, select them by ``ids`` again.
    Values are of ``dtype``.
    """
    means2d, depths, radii = [], [], []
    for ids, centres, _, z, _, reach in projected:
        centres, z = centres.to(dtype), z.to(dtype)
        means2d.append(centres.new_zeros(count, 2).index_copy(0, ids, centres))
        depths.append(z.new_zeros(count).index_copy(0, ids, z))
        # At least 1: an opacity of exactly 1/255 reaches nothing but its own centre.
        pixels = reach.ceil().clamp(1, _LARGEST_RADIUS).int()
        radii.append(pixels.new_zeros(count, 2).index_copy(0, ids, pixels))
    return Meta(torch.stack(radii), torch.stack(means2d), torch.stack(depths))


def footprint_axes(
    in_camera: Tensor, quats: Tensor, scales: Tensor, camera: Camera
) -> tuple[Tensor, Tensor]:
    """Rows [M, 3] of A = J R rotation scale, in pixels: the 2D covariance is A A^T + BLUR I."""
    K, width, height = camera.K, camera.width, camera.height
    R = camera.viewmat[:3, :3]
    x, y, z = in_camera.unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = EDGE_MARGIN * 0.5 * width / fx, EDGE_MARGIN * 0.5 * height / fy
    slope_x = torch.clamp(x / z, -(cx / fx + margin_x), (width - cx) / fx + margin_x)
    slope_y = torch.clamp(y / z, -(cy / fy + margin_y), (height - cy) / fy + margin_y)
    # Rows of J R: the gradient of each pixel coordinate with respect to the world position.
    toward_x = (fx / z)[:, None] * (R[0] - slope_x[:, None] * R[2])  # [M, 3]
    toward_y = (fy / z)[:, None] * (R[1] - slope_y[:, None] * R[2])
    root = matrices_from_quats(quats) * scales[:, None, :]  # [M, 3, 3]
    return (toward_x[:, :, None] * root).sum(1), (toward_y[:, :, None] * root).sum(1)


def whiten(a_x: Tensor, a_y: Tensor) -> Tensor:
    """Factors [M, 3] ux, uy, wy of the inverse of A A^T + BLUR I, from the rows [M, 3] of A.

    The inverse is L^T L with L = [[ux, uy], [0, wy]]. Of an offset (dx, dy) from the centre,
    w = wy dy measures y alone and u = ux dx + uy dy measures x given y, in standard deviations:
    sigma = (u^2 + w^2) / 2. Differentiable once.
    """
    return _Whiten.apply(a_x, a_y)  # pyright: ignore[reportReturnType]


class _Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a_x: Tensor, a_y: Tensor) -> Tensor:
        variances, determinant = _covariance(a_x, a_y)
        yy = variances[:, 1]
        ux = (yy / determinant).sqrt()
        uy = -ux * (a_x * a_y).sum(-1) / yy
        factors = torch.stack([ux, uy, yy.rsqrt()], -1)
        ctx.save_for_backward(a_x, a_y, factors)
        return factors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # L S L^T = I for S = A A^T + BLUR I. Differentiated: dA = -L^T M L A, where M is symmetric
        # with the lower half of (dL L^T). Through the determinant, large terms would cancel.
        a_x, a_y, factors = ctx.saved_tensors
        ux, uy, wy = factors.T[..., None]
        to_ux, to_uy, to_wy = grad.T[..., None]
        m_uu, m_uw, m_ww = to_ux * ux + to_uy * uy, to_uy * wy, to_wy * wy
        e_u, e_w = ux * a_x + uy * a_y, wy * a_y  # L A
        t_u, t_w = m_uu * e_u + m_uw * e_w, m_uw * e_u + m_ww * e_w
        return -ux * t_u, -(uy * t_u + wy * t_w)


def _covariance(a_x: Tensor, a_y: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal [M, 2] and determinant [M] of A A^T + BLUR I."""
    squares = torch.stack([(a_x * a_x).sum(-1), (a_y * a_y).sum(-1)], -1)
    # |a|^2 |b|^2 - (a b)^2 = |a x b|^2 (Lagrange): nothing cancels on the right.
    cross = torch.linalg.cross(a_x, a_y)
    determinant = (cross * cross).sum(-1) + BLUR * squares.sum(-1) + BLUR**2
    return squares + BLUR, determinant


def _centres(in_camera: Tensor, camera: Camera) -> Tensor:
    """Pixels [M, 2]."""
    x, y, z = in_camera.unbind(-1)
    K = camera.K
    return torch.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], -1)


def _exact(tensor: Tensor) -> Tensor:
    """In float64, but on Apple's GPUs, which have none."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def _pixel_boxes(means2d: Tensor, reach: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Pixel box of every footprint, clipped to the image, and whether it holds a pixel at all."""
    # The box may be too large but never too small by rounding: compositing tests every pixel.
    reach = reach * (1 + 1e-4) + 1e-3
    limit = means2d.new_tensor([camera.width - 1, camera.height - 1])
    first = torch.ceil(means2d - reach - 0.5).clamp(min=0)
    last = torch.minimum(torch.floor(means2d + reach - 0.5), limit)
    reached = (first <= last).all(-1)  # False for NaN
    return torch.stack([first, last], -1).flatten(-2), reached  # [M, 4]: x0 x1 y0 y1
