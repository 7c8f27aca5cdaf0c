"""Rotations as quaternions (w, x, y, z) and matrices."""

import torch
from torch import Tensor


def multiply_quats(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions [..., 4] (w, x, y, z): the rotation b, then a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def matrices_from_quats(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any non-zero length."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quats_from_matrices(matrices: Tensor) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z; w >= 0) of rotation matrices [..., 3, 3].

    Each component in turn could be the divisor; the largest one is, so that none is lost to
    rounding (Shepperd's method).
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrices.flatten(-2).unbind(-1)
    # Row i is 4 q_i (w, x, y, z); its own entry is 4 q_i^2.
    rows = torch.stack(
        [
            torch.stack([1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m21 + m12], -1),
            torch.stack([m10 - m01, m02 + m20, m21 + m12, 1 - m00 - m11 + m22], -1),
        ],
        -2,
    )
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    quats = rows.take_along_dim(best, -2)[..., 0, :]
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    return quats / quats.norm(dim=-1, keepdim=True)
