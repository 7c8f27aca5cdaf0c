"""Camera paths for rendering: rigid world-to-camera matrices [N, 4, 4] made from given cameras."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from recon.cameras import compose, invert_rigid
from recon.rotations import matrices_from_quats, quats_from_matrices


def interpolate(viewmats: Tensor, num_frames: int, *, depth: float) -> Tensor:
    """Fly through the given cameras, at even steps of their index.

    Centres follow a Catmull-Rom spline, rotations the shortest arcs between neighbours. A frame
    that falls on the index of a given camera is seen by that very camera. One camera gives a still.

    Args:
        viewmats: [V, 4, 4] world-to-camera, V >= 1.
        num_frames: N >= 1.
        depth: not used, because the cameras alone determine this path; checked as by the other
            paths, which are called in the same way.

    Returns:
        [N, 4, 4] world-to-camera, dtype and device of ``viewmats``.

    Raises:
        ValueError: cameras of another shape, no frame, or a depth that is not positive and finite.
    """
    _check(viewmats, num_frames, depth)
    if len(viewmats) == 1:
        return viewmats.repeat(num_frames, 1, 1)
    poses = invert_rigid(viewmats.double())
    last = len(poses) - 1
    time = torch.linspace(0, last, num_frames, dtype=poses.dtype, device=poses.device)
    before = time.floor().long().clamp(max=last - 1)
    share = (time - before)[:, None]

    quats = quats_from_matrices(poses[:, :3, :3])
    rotations = matrices_from_quats(_slerp(quats[before], quats[before + 1], share))
    centres = poses[:, :3, 3]
    # A mirrored point beyond either end gives the spline its slope there.
    points = torch.cat([2 * centres[:1] - centres[1:2], centres, 2 * centres[-1:] - centres[-2:-1]])
    p0, p1, p2, p3 = (points[before + k] for k in range(4))
    linear, square, cube = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * (p1 - p2) + p3 - p0
    path = p1 + 0.5 * share * (linear + share * (square + share * cube))
    return invert_rigid(_rigid(rotations, path)).to(viewmats.dtype)


def orbit(viewmats: Tensor, num_frames: int, *, depth: float, degrees: float = 30.0) -> Tensor:
    """Swing the middle camera sideways around the point that it looks at, and back: a closed loop.

    The swing is ``degrees`` wide in all: a full turn would show sides that no camera has seen.

    Args:
        viewmats: [V, 4, 4] world-to-camera, V >= 1; the middle one (index V // 2) is moved.
        num_frames: N >= 1; the frame after the last would be the first again.
        depth: camera z of the point looked at, in world units.
        degrees: angle between the two ends of the swing.

    Returns:
        [N, 4, 4] world-to-camera, dtype and device of ``viewmats``.

    Raises:
        ValueError: as :func:`interpolate`.
    """
    angle = math.radians(degrees / 2) * _turns(viewmats, num_frames, depth).sin()
    offsets = depth * torch.stack([angle.sin(), torch.zeros_like(angle), 1 - angle.cos()], -1)
    return _look_back(viewmats, offsets, depth)


def spiral(viewmats: Tensor, num_frames: int, *, depth: float, radius: float = 0.1) -> Tensor:
    """Circle twice in front of the scene while moving in and out once, facing one point.

    Args:
        viewmats: [V, 4, 4] world-to-camera, V >= 1; the middle one (index V // 2) is the centre.
        num_frames: N >= 1; the frame after the last would be the first again.
        depth: camera z of the point looked at, in world units.
        radius: of the circle, as a share of ``depth``; in [0, 1).

    Returns:
        [N, 4, 4] world-to-camera, dtype and device of ``viewmats``.

    Raises:
        ValueError: as :func:`interpolate`.
    """
    turn = _turns(viewmats, num_frames, depth)
    circle = torch.stack([(2 * turn).cos(), (2 * turn).sin(), turn.sin()], -1)
    return _look_back(viewmats, radius * depth * circle, depth)


TRAJECTORIES: dict[str, Callable[..., Tensor]] = {
    "interpolate": interpolate,
    "orbit": orbit,
    "spiral": spiral,
}
"""Paths by name, all called as ``path(viewmats, num_frames, depth=depth)``."""


def _turns(viewmats: Tensor, num_frames: int, depth: float) -> Tensor:
    """Angles of one full turn without its end, [N] float64."""
    _check(viewmats, num_frames, depth)
    steps = torch.arange(num_frames, dtype=torch.float64, device=viewmats.device)
    return steps * (2 * math.pi / num_frames)


def _look_back(viewmats: Tensor, offsets: Tensor, depth: float) -> Tensor:
    """Move the middle camera by ``offsets`` [N, 3] in its own frame, facing (0, 0, depth) there."""
    middle = viewmats[len(viewmats) // 2].double()
    forward = _unit(offsets.new_tensor([0.0, 0.0, depth]) - offsets)
    right = _unit(torch.linalg.cross(offsets.new_tensor([[0.0, 1.0, 0.0]]), forward))
    down = torch.linalg.cross(forward, right)
    middle_from_new = _rigid(torch.stack([right, down, forward], -1), offsets)
    return compose(invert_rigid(middle_from_new), middle).to(viewmats.dtype)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _rigid(rotations: Tensor, translations: Tensor) -> Tensor:
    T = torch.eye(4, dtype=rotations.dtype, device=rotations.device).repeat(len(rotations), 1, 1)
    T[:, :3, :3] = rotations
    T[:, :3, 3] = translations
    return T


def _slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Rotate evenly from unit quaternions a to b [N, 4] along the shorter arc; share [N, 1]."""
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    # sinc keeps the weights exact down to an angle of zero.
    weight_a = (1 - share) * torch.sinc((1 - share) * angle / math.pi)
    weight_b = share * torch.sinc(share * angle / math.pi)
    return weight_a * a + weight_b * b


def _check(viewmats: Tensor, num_frames: int, depth: float) -> None:
    if viewmats.ndim != 3 or viewmats.shape[1:] != (4, 4) or len(viewmats) == 0:
        raise ValueError(f"viewmats must be [V, 4, 4] with V >= 1, not {tuple(viewmats.shape)}")
    if num_frames < 1:
        raise ValueError(f"a path needs at least one frame, not {num_frames}")
    if not 0 < depth < math.inf:
        raise ValueError(f"the depth to look at must be positive and finite, not {depth}")
