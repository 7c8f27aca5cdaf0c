"""The camera's walk: smooth, hand-held, looking at the salient thing."""

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.scene import Walk

_KNOT_BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0


def spline(knots: NDArray[np.float64], time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate a uniform cubic B-spline: knots [K, D], time [N] in 0..1; gives [N, D]."""
    place = np.clip(time, 0, 1) * (len(knots) - 3)
    first = np.minimum(place.astype(int), len(knots) - 4)
    u = place - first
    powers = np.stack([np.ones_like(u), u, u**2, u**3], -1)
    return np.einsum("np,pk,nkd->nd", powers, _KNOT_BASIS, knots[first[:, None] + np.arange(4)])


def eyes(walk: Walk, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera centres [N, 3] at times in 0..1."""
    return spline(np.array(walk.eyes), time)


def viewmats(walk: Walk, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """World-to-camera matrices [N, 4, 4], OpenCV axes, at times in 0..1."""
    eye = eyes(walk, time)
    forward = spline(np.array(walk.targets), time) - eye
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    roll = spline(np.array(walk.roll)[:, None], time)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    right, down = (
        right * np.cos(roll) + down * np.sin(roll),
        down * np.cos(roll) - right * np.sin(roll),
    )
    out = np.tile(np.eye(4), (len(eye), 1, 1))
    out[:, :3, :3] = np.stack([right, down, forward], 1)  # rows: the camera's axes
    out[:, :3, 3] = -(out[:, :3, :3] @ eye[:, :, None])[:, :, 0]
    return out


def intrinsics(walk: Walk, height: int, width: int) -> NDArray[np.float64]:
    """Pixel intrinsics [3, 3]; the field of view belongs to the longer side."""
    focal = walk.focal * max(height, width)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
