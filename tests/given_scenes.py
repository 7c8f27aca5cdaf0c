"""Scenes as files and folders, with cameras that stand around them."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F

from mmdiff_video.scenes.folder import CAPTURE, GAUSSIANS
from recon.cameras import invert_rigid
from recon.gaussians import Gaussians
from recon.io.colmap import write_model
from recon.io.colmap_model import ColmapCamera, ColmapImage, Model, Points
from recon.io.scene_files import save_scene
from recon.lenses import Lens
from recon.rotations import matrices_from_quats, quats_from_matrices

LENS = Lens(width=64, height=48, fx=60, fy=60, cx=32, cy=24)


def some_gaussians(degree: int | None = 1, count: int = 40, seed: int = 0) -> Gaussians:
    """A ball of radius 1 or so around the origin, in colours that all formats hold."""
    rng = torch.Generator().manual_seed(seed)
    colors = torch.rand(count, 3, generator=rng)
    if degree is not None:
        rest = (count, (degree + 1) ** 2 - 1, 3)
        harmonics = (0.2 * torch.randn(rest, generator=rng)).clamp(-0.9, 0.9)
        colors = torch.cat([colors[:, None] - 0.5, harmonics], 1)
    return Gaussians(
        0.5 * torch.randn(count, 3, generator=rng),
        F.normalize(torch.randn(count, 4, generator=rng), dim=-1),
        torch.rand(count, 3, generator=rng) * 0.2 + 0.05,
        torch.rand(count, generator=rng) * 0.7 + 0.2,
        colors,
    )


def around(count: int = 8, arc: float = 360.0, distance: float = 4.0) -> torch.Tensor:
    """Level cameras [V, 4, 4] float64 that look at the origin, y down, the first along z."""
    found = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for k in range(count):
        half = math.radians(k * arc / count) / 2
        quat = torch.tensor([math.cos(half), 0, math.sin(half), 0]).double()
        found[k, :3, :3] = matrices_from_quats(quat)
        found[k, 2, 3] = distance
    return found


def write_project(
    folder: Path, viewmats: torch.Tensor, lens: Lens = LENS, *, text: bool = False
) -> Path:
    """A COLMAP project without pictures; the later the picture, the smaller its number."""
    count = len(viewmats)
    images = {
        count - k: ColmapImage(
            f"{k:03d}.png", 1, quats_from_matrices(T[:3, :3]).numpy(), T[:3, 3].numpy()
        )
        for k, T in enumerate(viewmats)
    }
    model = Model({1: ColmapCamera.of(lens)}, images, Points.none())
    write_model(folder / "sparse" / "0", model, text=text)
    return folder


def write_scene(folder: Path, world: torch.Tensor | None = None) -> Path:
    """The folder of a fitted scene: a ball with cameras around it.

    Args:
        folder: to make.
        world: [4, 4] float64, moves all of it.
    """
    world = torch.eye(4, dtype=torch.float64) if world is None else world
    scene = some_gaussians().to(torch.float64).transform(world).to(torch.float32)
    save_scene(folder / GAUSSIANS, scene)
    write_project(folder / CAPTURE, around() @ invert_rigid(world))
    return folder
