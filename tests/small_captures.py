"""A small capture on disk: pictures of a few big Gaussians, with their cameras."""

from pathlib import Path

import torch
from PIL import Image

from recon.capture.capture import Capture, Photo, save_as_transforms
from recon.lenses import Lens
from recon.rasterize import rasterize

WIDTH, HEIGHT = 48, 40


def small_capture(folder: Path, count: int = 9) -> Capture:
    """A camera that moves sideways past forty blobs; leaves pictures and transforms.json."""
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(40, 3, generator=rng) * torch.tensor([4.0, 4.0, 2.0])
    points += torch.tensor([-2.0, -2.0, 3.0])
    colors = torch.rand(40, 3, generator=rng)
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = -torch.linspace(-0.5, 0.5, count)
    lens = Lens(width=WIDTH, height=HEIGHT, fx=40.0, fy=40.0, cx=WIDTH / 2, cy=HEIGHT / 2)
    images = rasterize(
        points,
        torch.tensor([1.0, 0, 0, 0]).expand(40, 4),
        torch.full((40, 3), 0.3),
        torch.full((40,), 0.9),
        colors,
        viewmats,
        lens.K().float().repeat(count, 1, 1),
        WIDTH,
        HEIGHT,
    ).image
    (folder / "images").mkdir(parents=True)
    photos = []
    for number, image in enumerate((images.clamp(0, 1) * 255).round().byte()):
        name = f"images/{number:03d}.png"
        Image.fromarray(image.numpy()).save(folder / name)
        photos.append(Photo(name, folder / name, lens, viewmats[number].double()))
    capture = Capture(photos, points.double(), (colors * 255).byte())
    save_as_transforms(capture, folder)
    return capture
