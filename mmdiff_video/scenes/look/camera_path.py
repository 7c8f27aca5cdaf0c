"""Cameras without a size of picture, and paths between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmdiff_video.files import write_aside
from recon.cameras import invert_rigid
from recon.io.transforms import Frame, write_transforms
from recon.lenses import Lens
from recon.rotations import matrices_from_quats
from recon.trajectories import interpolate


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera whose axis meets the centre of its picture.

    Attributes:
        viewmat: [4, 4] float64 on the CPU, world-to-camera, OpenCV axes.
        fov: vertical, in radians.
    """

    viewmat: Tensor
    fov: float

    @classmethod
    def of(cls, viewmat: Tensor, K: Tensor, height: int) -> "Camera":
        """Take what counts of a camera with pictures of ``height`` pixels; K [3, 3]."""
        fov = 2 * math.atan(height / 2 / float(K[1, 1]))
        return cls(viewmat.detach().double().cpu(), fov)

    @classmethod
    def at(cls, position: Sequence[float], wxyz: Sequence[float], fov: float) -> "Camera":
        """Make one from its place in the world and the quaternion of its axes there."""
        pose = torch.eye(4, dtype=torch.float64)
        quat = torch.tensor([float(x) for x in wxyz], dtype=torch.float64)
        pose[:3, :3] = matrices_from_quats(quat)
        pose[:3, 3] = torch.tensor([float(x) for x in position], dtype=torch.float64)
        return cls(invert_rigid(pose), float(fov))

    @classmethod
    def facing(cls, position: Tensor, forward: Tensor, up: Tensor, fov: float = 1.0) -> "Camera":
        """Make an upright one at a place [3], from directions [3] of unit length in the world."""
        right = torch.linalg.cross(forward, up)
        if right.norm() < 1e-3:  # straight up or down: upright means nothing
            right = torch.linalg.cross(forward, torch.eye(3).to(forward)[forward.abs().argmin()])
        right = right / right.norm()
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
        viewmat[:3, 3] = -(viewmat[:3, :3] * position).sum(-1)
        return cls(viewmat, fov)

    @property
    def centre(self) -> Tensor:
        """[3] float64: its place in the world."""
        return invert_rigid(self.viewmat)[:3, 3]

    @property
    def axes(self) -> Tensor:
        """[3, 3] float64: right, down and forward in the world, as rows."""
        return self.viewmat[:3, :3]

    def lens(self, width: int, height: int) -> Lens:
        """Intrinsics for pictures of a size, in pixels; those wider show more at the sides."""
        focal = height / 2 / math.tan(self.fov / 2)
        return Lens(width=width, height=height, fx=focal, fy=focal, cx=width / 2, cy=height / 2)


def fly_through(keys: Sequence[Camera], frames: int) -> list[Camera]:
    """Fly through cameras, as :func:`recon.trajectories.interpolate` does.

    Args:
        keys: one or more; one gives a still.
        frames: 1 or more; a frame on the index of a key is that key.
    """
    viewmats = interpolate(torch.stack([key.viewmat for key in keys]), frames, depth=1.0)
    fovs = torch.tensor([key.fov for key in keys], dtype=torch.float64)
    time = torch.linspace(0, len(keys) - 1, frames, dtype=torch.float64)
    before = time.floor().long().clamp(max=max(len(keys) - 2, 0))
    after = (before + 1).clamp(max=len(keys) - 1)
    between = torch.lerp(fovs[before], fovs[after], time - before)
    return [Camera(viewmat, fov) for viewmat, fov in zip(viewmats, between.tolist(), strict=True)]


def write_cameras(file: Path, cameras: Sequence[Camera], width: int, height: int) -> None:
    """Write cameras of a path as a ``transforms.json`` that names pictures still to be made.

    Args:
        file: replaced; it appears complete or not at all.
        cameras: in their order; frame N is named ``frames/0000N.png``.
        width, height: of the pictures.
    """
    frames = [
        Frame(f"frames/{number:05d}.png", camera.lens(width, height), camera.viewmat)
        for number, camera in enumerate(cameras)
    ]
    with write_aside(file) as aside:
        write_transforms(aside, frames)
