"""Hand-sized scenes in float64 and how the torch engine renders them."""

from typing import Any

import torch
from torch import Tensor

from recon.rasterize import Rendered, rasterize
from recon.rasterize.contract import Camera, Splats
from recon.rasterize.projection import Projected, project_gaussians
from recon.rotations import matrices_from_quats

WIDTH, HEIGHT = 19, 14
DOUBLE = torch.float64
Scene = dict[str, Tensor]
GAUSSIAN_FIELDS = ["means", "quats", "scales", "opacities", "colors"]


def random_scene(count: int, *, views: int = 1, channels: int = 3, seed: int = 0) -> Scene:
    """Gaussians of 1 to 4 px around the view axis, some behind, some off the picture."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=DOUBLE)

    viewmats = torch.eye(4, dtype=DOUBLE).repeat(views, 1, 1)
    wobble = torch.cat([torch.ones(views, 1, dtype=DOUBLE), uniform(-0.1, 0.1, views, 3)], 1)
    viewmats[:, :3, :3] = matrices_from_quats(wobble)
    viewmats[:, :3, 3] = uniform(-0.3, 0.3, views, 3)
    K = torch.tensor([[18.0, 0, 9.1], [0, 17.0, 7.3], [0, 0, 1]], dtype=DOUBLE)
    return {
        "means": uniform(-2.0, 2.0, count, 3) * torch.tensor([1.0, 0.8, 1.0])
        + torch.tensor([0.0, 0, 3.0]),
        "quats": uniform(-1, 1, count, 4),
        "scales": uniform(0.05, 0.5, count, 3),
        "opacities": uniform(0.1, 1.0, count),
        "colors": uniform(0, 1, count, channels),
        "viewmats": viewmats,
        "Ks": K.repeat(views, 1, 1),
    }


def render(scene: dict[str, Any], **options: Any) -> Rendered:
    return rasterize(**({"width": WIDTH, "height": HEIGHT, "engine": "torch"} | scene | options))


def project(scene: Scene, view: int = 0) -> Projected:
    camera = Camera(scene["viewmats"][view], scene["Ks"][view], WIDTH, HEIGHT, 0.01, 1e10)
    return project_gaussians(Splats(*(scene[name] for name in GAUSSIAN_FIELDS)), camera)


def select(scene: Scene, index) -> Scene:
    return {name: t[index] if name in GAUSSIAN_FIELDS else t for name, t in scene.items()}


def one_gaussian(**changes) -> Scene:
    """A round Gaussian on the axis of a camera at the origin, 4 units away."""
    scene = {
        "means": torch.tensor([[0.0, 0, 4.0]], dtype=DOUBLE),
        "quats": torch.tensor([[1.0, 0, 0, 0]], dtype=DOUBLE),
        "scales": torch.full((1, 3), 0.3, dtype=DOUBLE),
        "opacities": torch.tensor([0.8], dtype=DOUBLE),
        "colors": torch.tensor([[0.2, 0.5, 0.9]], dtype=DOUBLE),
        "viewmats": torch.eye(4, dtype=DOUBLE)[None],
        "Ks": torch.tensor([[[20.0, 0, 9.5], [0, 20, 6.5], [0, 0, 1]]], dtype=DOUBLE),
    }
    return scene | {name: torch.tensor(value, dtype=DOUBLE) for name, value in changes.items()}


def assert_same(a: Rendered, b: Rendered, **tolerance) -> None:
    for name, x, y in zip(Rendered._fields, a, b, strict=True):
        torch.testing.assert_close(x, y, msg=lambda m, name=name: f"{name}: {m}", **tolerance)
