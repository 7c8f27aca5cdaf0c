"""Colours that depend on the direction of view: real spherical harmonics (SH) of degree 0 to 3.

Order and signs are those of gsplat and of the original 3DGS code: a Gaussian seen along the unit
vector d has the colour max(0, 0.5 + sum_k coefficient_k basis_k(d)), for red, green and blue apart.
"""

import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_DEGREE = 3


def num_bases(degree: int) -> int:
    """Number of bases up to a degree: 1, 4, 9, 16."""
    return (degree + 1) ** 2


def coefficients_in_use(colors: Tensor, means: Tensor, sh_degree: int | None) -> Tensor:
    """Leave off the coefficients beyond ``sh_degree``; without a degree, colours are returned.

    Args:
        colors: [..., G, C], or [..., G, K, 3] coefficients of which the first are used.
        means: [..., G, 3].
        sh_degree: 0 to 3, or None for colours.

    Returns:
        [..., G, C], or [..., G, (sh_degree + 1)^2, 3].

    Raises:
        ValueError: another degree, or colours of another shape.
    """
    if sh_degree is None:
        if colors.ndim == means.ndim + 1:
            raise ValueError(
                f"colors is {tuple(colors.shape)}, expected {tuple(means.shape[:-1])} and "
                "channels: say sh_degree to have it read as spherical harmonics"
            )
        return colors
    if (
        not isinstance(sh_degree, numbers.Integral)
        or isinstance(sh_degree, bool)
        or not 0 <= sh_degree <= MAX_DEGREE
    ):
        raise ValueError(
            f"sh_degree must be a whole number from 0 to {MAX_DEGREE}, or None for plain colors, "
            f"not {sh_degree!r}"
        )
    needed = num_bases(int(sh_degree))
    if colors.ndim != means.ndim + 1 or colors.shape[-1] != 3 or colors.shape[-2] < needed:
        raise ValueError(
            f"colors is {tuple(colors.shape)}, expected {tuple(means.shape[:-1])}, {needed} or "
            f"more coefficients of spherical harmonics of degree {sh_degree}, and 3 channels"
        )
    return colors[..., :needed, :]


def bases(directions: Tensor, degree: int) -> Tensor:
    """Evaluate the bases.

    Args:
        directions: [..., 3] unit vectors.
        degree: 0 to 3.

    Returns:
        [..., (degree + 1)^2].
    """
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.9461746957575601 * z * z - 0.31539156525252005,
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        along_z = 0.4570457994644658 - 2.285228997322329 * z * z
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            along_z * y,
            z * (1.865881662950577 * z * z - 1.1195289977703462),
            along_z * x,
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, -1)


def colors_from(coefficients: Tensor, means: Tensor, viewmat: Tensor) -> Tensor:
    """Colours of Gaussians as one camera sees them. Differentiable in everything.

    Args:
        coefficients: [M, (degree + 1)^2, 3].
        means: [M, 3] centres, none of which is the camera's.
        viewmat: [4, 4]; its upper three rows need an inverse, no more.

    Returns:
        [M, 3], in the dtype of the coefficients.
    """
    viewmat = viewmat.to(means.dtype)
    # By the inverse, not the transpose, which differs in the derivative: as gsplat has it.
    centre = -torch.linalg.solve(viewmat[:3, :3], viewmat[:3, 3])
    directions = F.normalize(means - centre, dim=-1, eps=0)
    degree = round(coefficients.shape[1] ** 0.5) - 1
    weights = bases(directions, degree).to(coefficients.dtype)
    return ((weights[..., None] * coefficients).sum(1) + 0.5).clamp(min=0)


def rotate(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Turn a scene's colours: seen along R d, the result is what was seen along d.

    Args:
        coefficients: [..., G, (degree + 1)^2, 3].
        rotation: [..., 3, 3] new_from_old.
    """
    degree = round(coefficients.shape[-2] ** 0.5) - 1
    # Bases of one degree turn into each other. Known at as many directions or more, they are known.
    generator = torch.Generator().manual_seed(0)
    samples = F.normalize(
        torch.randn(4 * num_bases(degree), 3, generator=generator).double(), dim=1
    )
    old = bases(samples, degree)
    new = bases((rotation.cpu().double()[..., None, :, :] @ samples[..., None])[..., 0], degree)
    turned = [coefficients[..., :1, :]]
    for band in range(1, degree + 1):
        part = slice(num_bases(band - 1), num_bases(band))
        matrix = (torch.linalg.pinv(new[..., part]) @ old[..., part]).to(coefficients)
        turned.append(torch.einsum("...ij,...gjc->...gic", matrix, coefficients[..., part, :]))
    return torch.cat(turned, -2)
