"""Turns a scene upright and puts it into the middle, as viewers of files expect it.

They take the axes of the first 3DGS code, which are those of COLMAP and of a camera: x right, y
down, z ahead. COLMAP's world has those of whichever camera came first, at any tilt.
"""

import math

import torch
from torch import Tensor

from recon.gaussians import Gaussians

_AGREE = 0.3
"""Length of the mean of the cameras' ups (1: all are one) from which they count as of one mind."""

_UPSIDE = 0.3
"""Cosine to the common up below which a camera was held sideways or upside down."""

_FANNED = 0.17
"""Root mean square of the second direction that the cameras' right axes span, from which they say
what is level. Below it the cameras stand side by side, and any tilt would fit."""


def up_of_cameras(viewmats: Tensor) -> Tensor | None:
    """Tell what is up in the world from cameras that people held.

    It is the direction that most cameras have above them (the geometric median of their -y axes).
    Photographers tilt the camera but keep it level: where the cameras look into different
    directions, up is what stands upright on all their x axes.

    Args:
        viewmats: [V, 4, 4] world-to-camera, V >= 1.

    Returns:
        [3] float64 of unit length; None where the cameras do not agree.
    """
    axes = viewmats[:, :3, :3].double().cpu()
    ups, rights = -axes[:, 1], axes[:, 0]
    up = _median_direction(ups)
    if up is None:
        return None
    held = ups @ up > _UPSIDE
    _, sizes, directions = torch.linalg.svd(rights[held], full_matrices=True)
    if len(sizes) > 1 and sizes[1] > _FANNED * math.sqrt(int(held.sum())):
        level = directions[2] * (directions[2] @ up).sign()
        if level @ up > _UPSIDE:
            return level
    return up


def centre(gaussians: Gaussians) -> Tensor:
    """Find the middle of one scene: the median of the centres, weighted by opacity; [3] float64.

    Args:
        gaussians: finite, G >= 1.
    """
    return _middle(gaussians.means.detach().double().cpu(), gaussians.opacities)


def weighted_quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """Find the least of values [N] below or at which the given share of the weights [N] lies."""
    order = values.argsort()
    sums = weights[order].cumsum(0)
    place = torch.searchsorted(sums, share * sums[-1]).clamp(max=len(values) - 1)
    return values[order[place]]


def upright_from_world(gaussians: Gaussians, up: Tensor | None) -> Tensor:
    """Make the rigid transform that turns ``up`` to -y by the least angle, and then centres.

    Args:
        gaussians: finite, G >= 1.
        up: [3] of unit length; None: the axes stay as they are.

    Returns:
        [4, 4] float64, for :func:`move`; the :func:`centre` of what is moved is the origin.
    """
    T = torch.eye(4, dtype=torch.float64)
    means = gaussians.means.detach().double().cpu()
    if up is not None:
        T[:3, :3] = _rotation_to_minus_y(up.double())
        means = means @ T[:3, :3].T
    T[:3, 3] = -_middle(means, gaussians.opacities)
    return T


def move(gaussians: Gaussians, new_from_old: Tensor) -> Gaussians:
    """Move one scene, harmonics too, by a rigid transform [4, 4]; rounds once, to its dtype."""
    T = new_from_old.double().to(gaussians.means.device)
    return gaussians.to(torch.float64).transform(T).to(gaussians.means.dtype)


def angle_degrees(rotation: Tensor) -> float:
    """Angle of a rotation [3, 3], from 0 to 180 degrees."""
    skew = torch.stack(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    return math.degrees(math.atan2(float(skew.norm()), float(rotation.trace()) - 1))


def _middle(means: Tensor, opacities: Tensor) -> Tensor:
    weights = opacities.detach().double().cpu().clamp(min=1e-9)
    return torch.stack([weighted_quantile(axis, weights, 0.5) for axis in means.unbind(-1)])


def _median_direction(directions: Tensor) -> Tensor | None:
    """Find the geometric median of unit vectors [V, 3] (Weiszfeld): outliers do not turn it."""
    found = directions.mean(0)
    for _ in range(100):
        weights = 1 / (directions - found).norm(dim=-1).clamp(min=1e-6)
        found = (weights[:, None] * directions).sum(0) / weights.sum()
    return found / found.norm() if found.norm() > _AGREE else None


def _rotation_to_minus_y(up: Tensor) -> Tensor:
    """[3, 3] of the least angle."""
    goal = up.new_tensor([0.0, -1.0, 0.0])
    along = float(up @ goal)
    if along < -1 + 1e-12:  # upside down: the axis is of our choice, as viewers have it
        return torch.diag(up.new_tensor([-1.0, -1.0, 1.0]))
    x, y, z = torch.linalg.cross(up, goal).tolist()
    cross = up.new_tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return torch.eye(3, dtype=up.dtype) + cross + cross @ cross / (1 + along)
