"""Small scenes to look at, in memory and on disk."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmdiff_video.scenes.folder import CAPTURE, GAUSSIANS
from mmdiff_video.scenes.look.camera_path import Camera
from mmdiff_video.scenes.look.content import Content, View
from recon.capture.capture import Capture, Photo, save_as_colmap
from recon.gaussians import Gaussians
from recon.io.ply import save_ply
from recon.lenses import Lens

LENS = Lens(width=30, height=20, fx=20, fy=20, cx=15, cy=10)


def gaussians(count: int = 600, *, unit: float = 1.0, harmonics: bool = False) -> Gaussians:
    """A blue cloud, and a red ball in front of its upper right; of shapes that show any mistake.

    The ball is the first tenth of the Gaussians: drawn in their order it would be behind.
    """
    rng = torch.Generator().manual_seed(0)
    means = (torch.rand(count, 3, generator=rng) - 0.5) * torch.tensor([4.0, 3.0, 2.0])
    means += torch.tensor([0.0, 0.0, 5.0])
    ball = count // 10
    means[:ball] = 0.2 * torch.randn(ball, 3, generator=rng) + torch.tensor([1.2, -0.8, 3.0])
    colors = torch.rand(count, 3, generator=rng) * 0.4 + torch.tensor([0.1, 0.3, 0.5])
    colors[:ball] = torch.tensor([0.9, 0.1, 0.1])
    if harmonics:
        constant = (colors - 0.5) / 0.28209479177387814
        rest = 0.5 * torch.randn(count, 3, 3, generator=rng)
        colors = torch.cat([constant[:, None], rest], 1)
    return Gaussians(
        means * unit,
        torch.randn(count, 4, generator=rng),
        (torch.rand(count, 3, generator=rng) * 0.2 + 0.01) * unit,
        torch.rand(count, generator=rng) * 0.8 + 0.1,
        colors,
    )


def viewmats(count: int = 3, unit: float = 1.0) -> torch.Tensor:
    """Cameras side by side that look along +z, [count, 4, 4] float64."""
    found = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    found[:, 0, 3] = torch.linspace(0.3, -0.3, count) * unit
    return found


def content(*, unit: float = 1.0, harmonics: bool = False, labels: bool = False) -> Content:
    """All that a scene can have."""
    made = gaussians(unit=unit, harmonics=harmonics)
    picture = np.full((20, 30, 3), 90, np.uint8)
    views = [
        View(f"{number}.png", Camera(viewmat, fov=0.9), 1.5, picture if number else None)
        for number, viewmat in enumerate(viewmats(unit=unit))
    ]
    classes = torch.full((made.num, 3), 200, dtype=torch.uint8) if labels else None
    points = made.means[:5]
    return Content("a <scene>", made, views, points, torch.zeros(5, 3).byte(), classes)


def write_capture(folder: Path, count: int = 3) -> None:
    """A COLMAP project with pictures and points."""
    (folder / "images").mkdir(parents=True)
    photos = []
    for number, viewmat in enumerate(viewmats(count)):
        file = folder / "images" / f"{number}.png"
        Image.new("RGB", (30, 20), (10, 20, 30)).save(file)
        photos.append(Photo(file.name, file, LENS, viewmat))
    points = gaussians(20).means.double()
    save_as_colmap(Capture(photos, points, torch.zeros(20, 3).byte()), folder)


def write_scene(folder: Path) -> None:
    """The folder of a scene."""
    write_capture(folder / CAPTURE)
    save_ply(folder / GAUSSIANS, gaussians())
