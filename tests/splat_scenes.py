"""Scenes for the tests of the compiled engine, and what float64 says about them."""

import random
from typing import NamedTuple

import torch
from torch import Tensor

from recon.rasterize import Rendered, cpu_library, rasterize
from recon.rasterize.contract import Camera, Splats
from recon.rasterize.projection import EDGE_MARGIN, project_gaussians
from recon.rotations import matrices_from_quats

GAUSSIAN_FIELDS = ("means", "quats", "scales", "opacities", "colors")
Scene = dict[str, Tensor]

KINDS = ("plain", "huge", "tiny", "behind", "at near", "opaque", "faint", "needle", "aside")
NEAR, FAR = 0.2, 50.0
HOSTILE = (
    *(torch.nan, torch.inf, -torch.inf, 0.0, -0.0, -1.0, 1e-45, 1e-38, 1e-20, 1e20),
    *(1e30, 3.4e38, -3.4e38, 1e-3, 0.999, 1.0, 1 / 255, 65536.0),
)


class Shape(NamedTuple):
    """Size of a random scene."""

    gaussians: int
    views: int
    channels: int
    width: int
    height: int


def random_scene(shape: Shape, kinds: tuple[str, ...] = ("plain",), seed: int = 0) -> Scene:
    """Float32 Gaussians before cameras near the origin; each is of one of ``kinds``."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator)

    count, views = shape.gaussians, shape.views
    means = torch.stack(
        [uniform(-2, 2, count), uniform(-1.5, 1.5, count), uniform(1, 6, count)], -1
    )
    scales = uniform(0.05, 0.5, count, 3)
    opacities = uniform(0.1, 0.95, count)
    picked = torch.randint(len(kinds), (count,), generator=generator).tolist()
    for i, kind in enumerate(kinds[k] for k in picked):
        if kind == "huge":
            scales[i] *= 60
        elif kind == "tiny":
            scales[i] *= 1e-3
        elif kind == "behind":
            means[i, 2] *= -1
        elif kind == "at near":
            means[i] = torch.tensor([0.02 * i % 0.1, -0.01, NEAR])
            scales[i] *= 0.05
        elif kind == "opaque":
            opacities[i] = 1
        elif kind == "faint":
            opacities[i] = 0.9 / 255 + 0.004 * float(opacities[i])
        elif kind == "needle":
            scales[i] = torch.tensor([1.0, 1e-3, 1e-3]) * (0.5 + 2 * opacities[i])
        elif kind == "aside":
            means[i, 0] += 4
    viewmats = torch.eye(4).repeat(views, 1, 1)
    wobble = torch.cat([torch.ones(views, 1), uniform(-0.1, 0.1, views, 3)], 1)
    viewmats[:, :3, :3] = matrices_from_quats(wobble)
    viewmats[:, :3, 3] = uniform(-0.3, 0.3, views, 3)
    if "at near" in kinds:  # exactly, as an unmoved camera sees them
        viewmats[:1] = torch.eye(4)
    w, h = shape.width, shape.height
    K = torch.tensor([[0.9 * w, 0, 0.48 * w], [0, 0.85 * w, 0.53 * h], [0, 0, 1]])
    return {
        "means": means,
        "quats": uniform(-1, 1, count, 4),
        "scales": scales,
        "opacities": opacities,
        "colors": uniform(-1, 1, count, shape.channels),
        "viewmats": viewmats,
        "Ks": K.repeat(views, 1, 1),
        "backgrounds": uniform(0, 1, shape.channels),
    }


def hostile_scene(dice: random.Random) -> tuple[Scene, int, int]:
    """A scene with some values, or whole tensors, replaced."""
    shape = Shape(
        gaussians=dice.choice([0, 1, 2, 3, 17, 200]),
        views=dice.choice([0, 1, 1, 2, 3]),
        channels=dice.choice([1, 2, 3, 5, 32, 40]),
        width=dice.choice([1, 1, 2, 7, 16, 17, 33, 64, 100]),
        height=dice.choice([1, 1, 2, 7, 16, 17, 33, 64, 100]),
    )
    scene = random_scene(shape, tuple(dice.sample(KINDS, 4)), dice.randrange(2**31))
    for tensor in scene.values():
        roll = dice.random()
        if tensor.numel() == 0 or roll < 0.5:
            continue
        flat = tensor.view(-1)
        if roll < 0.85:
            for _ in range(dice.randint(1, 4)):
                flat[dice.randrange(len(flat))] = dice.choice(HOSTILE)
        elif roll < 0.95:
            flat[:] = dice.choice(HOSTILE)
        else:
            flat[:] = torch.tensor(dice.choices(HOSTILE, k=len(flat)))
    if dice.random() < 0.1:
        del scene["backgrounds"]
    if dice.random() < 0.05:  # shapes that do not fit
        name = dice.choice(list(scene))
        scene[name] = scene[name].new_zeros(dice.choices([0, 1, 2, 3], k=dice.randint(0, 4)))
    return scene, shape.width, shape.height


def render(scene: Scene, width: int, height: int, engine: str = "cpu", **options) -> Rendered:
    planes = {"near_plane": NEAR, "far_plane": FAR}
    return rasterize(**scene, width=width, height=height, engine=engine, **(planes | options))


def leaves(scene: Scene, dtype: torch.dtype = torch.float32) -> Scene:
    """Copies that collect gradients."""
    return {name: t.detach().clone().to(dtype).requires_grad_() for name, t in scene.items()}


def delicate_pixels(scene: Scene, width: int, height: int) -> Tensor:
    """[V, H, W] pixels where a pair is so near a threshold that rounding may decide.

    Thresholds: 1/255 and 0.999 of alpha, 1e-4 of transmittance; the order of two depths that
    float32 cannot tell apart although they differ; and the slope beyond which the affine
    approximation is taken no further, where its derivative jumps.
    """
    exact = {name: t.double() for name, t in scene.items()}
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    rows = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    found = torch.zeros(len(exact["viewmats"]), height, width, dtype=torch.bool)
    for view, (viewmat, K) in enumerate(zip(exact["viewmats"], exact["Ks"], strict=True)):
        splats = Splats(*(exact[name] for name in GAUSSIAN_FIELDS))
        seen = project_gaussians(splats, Camera(viewmat, K, width, height, NEAR, FAR))
        dx = seen.means2d[:, 0, None, None] - columns
        dy = seen.means2d[:, 1, None, None] - rows
        ux, uy, wy = (c[:, None, None] for c in seen.factors.unbind(-1))
        alphas = exact["opacities"][seen.ids, None, None] * torch.exp(
            -((ux * dx + uy * dy) ** 2 + (wy * dy) ** 2) / 2
        )
        close = (alphas * 255 - 1).abs() < 1e-3
        close |= (alphas / 0.999 - 1).abs() < 1e-4
        left = torch.cumprod(1 - alphas.where(alphas >= 1 / 255, 0).clamp(max=0.999), 0)
        close |= (left / 1e-4 - 1).abs() < 1e-2
        gaps = seen.depths.diff() / seen.depths[1:]
        twins = (gaps > 0) & (gaps < 1e-6)
        close[1:] |= twins[:, None, None] & (alphas[1:] >= 1 / 255)
        at_limit = _at_slope_limit(exact["means"][seen.ids], viewmat, K, width, height)
        close |= at_limit[:, None, None] & (alphas >= 1 / 255)
        found[view] = close.any(0)
    return found


def _at_slope_limit(means: Tensor, viewmat: Tensor, K: Tensor, width: int, height: int) -> Tensor:
    """[M] Gaussians whose x/z or y/z float32 cannot tell from where it is clamped."""
    in_camera = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    size = torch.tensor([width, height], dtype=torch.float64)
    focal, center = K.diagonal()[:2], K[:2, 2]
    margin = EDGE_MARGIN * size / 2 / focal
    slopes = in_camera[:, :2] / in_camera[:, 2:]
    limits = torch.stack([-center / focal - margin, (size - center) / focal + margin])
    return ((slopes - limits[:, None]).abs() < 1e-6).any(0).any(-1)


def instruction_sets() -> tuple[str, ...]:
    """Those that can be tested here; none where the engine was not built."""
    return () if cpu_library.unavailable() else cpu_library.instruction_sets()
