"""Long thin Gaussians in float32: the reference engine against a dense renderer in float64.

RECON_NEEDLE_SEEDS=200 pytest tests/recon/test_rasterize_needles.py    # the full run
"""

import os
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from recon.rasterize import cpu_library, rasterize, rasterize_with_meta
from recon.rotations import matrices_from_quats

SEEDS = int(os.environ.get("RECON_NEEDLE_SEEDS", "6"))
WIDTH, HEIGHT, FOCAL, NEAR = 26, 21, 24.0, 0.05
FIELDS = ("means", "quats", "scales", "opacities", "colors")
PLACES = ("before the camera", "at the picture's edge", "at the near plane", "through the camera")
# What float32 may do to one pixel, of colours and depths up to a few units, and to a gradient, as a
# share of the largest: expected depth is a ratio, whose gradient cancels where little is blended.
FLOOR, GRADIENT_FLOOR = 4e-6, 4e-5


class Pictures(NamedTuple):
    image: Tensor
    depth: Tensor
    alpha: Tensor


def needles(seed: int, ratio: float, place: str, count: int = 10) -> dict[str, Tensor]:
    """Needles of ``ratio`` to 1 in every direction; values are float32."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator)

    thin = 10 ** uniform(-4, -1.5, count)
    scales = torch.stack([thin * ratio, thin, thin * uniform(0.5, 2, count)], -1)
    z = uniform(1, 4, count)
    if place == "at the near plane":
        z = NEAR * (1 + 10 ** uniform(-5, -1, count))
    slopes = uniform(-0.5, 0.5, count, 2)
    if place == "at the picture's edge":
        slopes[:, 0] = torch.where(slopes[:, 0] < 0, -0.54, 0.54) + uniform(-0.05, 0.05, count)
    means = torch.cat([slopes * z[:, None], z[:, None]], 1)
    quats = torch.randn(count, 4, generator=generator)
    if place == "through the camera":  # seen from the end, which comes close to the camera
        quats = torch.tensor([1.0, 0, -1, 0]) + uniform(-0.02, 0.02, count, 4)
    return {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": uniform(0.2, 0.95, count),
        "colors": uniform(0, 1, count, 3),
    }


def dense(scene: dict[str, Tensor]) -> tuple[Pictures, Tensor]:
    """The definition for all pairs at once, and where none of them is so near a threshold that
    rounding may decide [H, W]. Every sum that could cancel is written as one of squares.
    """
    order = scene["means"][:, 2].detach().argsort(stable=True)
    means, quats, scales, opacities, colors = (scene[name][order] for name in FIELDS)
    x, y, z = means.unbind(-1)
    edge_x, edge_y = 1.3 * WIDTH / 2 / FOCAL, 1.3 * HEIGHT / 2 / FOCAL
    slope_x, slope_y = (x / z).clamp(-edge_x, edge_x), (y / z).clamp(-edge_y, edge_y)
    nothing = torch.zeros_like(z)
    along = FOCAL / z
    J = torch.stack([along, nothing, -along * slope_x, nothing, along, -along * slope_y], -1)
    A = J.unflatten(-1, (2, 3)) @ (matrices_from_quats(quats) * scales[:, None])
    a_x, a_y = A.unbind(1)
    determinant = torch.linalg.cross(a_x, a_y).square().sum(-1)
    determinant = determinant + 0.3 * (A**2).sum((1, 2)) + 0.09
    rows, columns = torch.arange(HEIGHT).double(), torch.arange(WIDTH).double()
    dx = (FOCAL * x / z + WIDTH / 2)[:, None, None] - columns - 0.5
    dy = (FOCAL * y / z + HEIGHT / 2)[:, None, None] - rows[:, None] - 0.5
    inside = (a_y[:, None, None] * dx[..., None] - a_x[:, None, None] * dy[..., None]) ** 2
    sigma = (inside.sum(-1) + 0.3 * (dx**2 + dy**2)) / determinant[:, None, None] / 2
    faded = opacities[:, None, None] * torch.exp(-sigma)
    alphas = torch.where(faded >= 1 / 255, faded, 0).clamp(max=0.999)
    left = torch.cat([torch.ones(1, HEIGHT, WIDTH).double(), torch.cumprod(1 - alphas, 0)])
    weights = alphas * left[:-1] * (left[1:] > 1e-4)
    alpha = weights.sum(0)
    image = torch.einsum("ghw,gc->hwc", weights, colors)
    depth = torch.einsum("ghw,g->hw", weights, z) / alpha.clamp(min=1e-10)
    clear = ((faded * 255 - 1).abs() > 1e-3).all(0) & ((left[1:] / 1e-4 - 1).abs() > 1e-2).all(0)
    return Pictures(image, depth, alpha), clear.detach()


def gradients(pictures: Pictures, scene: dict[str, Tensor], clear: Tensor) -> dict[str, Tensor]:
    """Of random weights on all that is clear."""
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros(())
    for maps in pictures:
        weights = torch.rand(maps.shape, generator=generator, dtype=torch.float64) - 0.5
        weights = weights * (clear if maps.ndim == 2 else clear[..., None])
        loss = loss + (maps * weights.to(maps.dtype)).sum()
    return dict(zip(FIELDS, torch.autograd.grad(loss, [scene[n] for n in FIELDS]), strict=True))


def errors(scene: dict[str, Tensor], engine: str) -> dict[str, float]:
    """Largest deviation from float64: of the maps, and of gradients as a share of the largest."""
    exact = {name: t.double().requires_grad_() for name, t in scene.items()}
    truth, clear = dense(exact)
    single: dict[str, Any] = {name: t.clone().requires_grad_() for name, t in scene.items()}
    cameras: dict[str, Any] = {
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]]),
    }
    rendered = rasterize(
        **single, **cameras, width=WIDTH, height=HEIGHT, near_plane=NEAR, engine=engine
    )
    pictures = Pictures(*(maps[0] for maps in rendered))
    assert clear.float().mean() > 0.5
    found = {
        name: float((ours.double() - theirs).detach()[clear].abs().max())
        for name, ours, theirs in zip(Pictures._fields, pictures, truth, strict=True)
    }
    theirs = gradients(truth, exact, clear)
    for name, ours in gradients(pictures, single, clear).items():
        size = float(theirs[name].abs().max()) + 1e-30
        found[f"gradient of {name}"] = float((ours.double() - theirs[name]).abs().max()) / size
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("ratio", [10.0, 100.0, 1000.0, 10000.0])
def test_needles_are_exact_and_no_worse_than_compiled(ratio, place):
    for seed in range(SEEDS):
        scene = needles(seed, ratio, place)
        reference = errors(scene, "torch")
        for name, error in reference.items():
            assert error < (GRADIENT_FLOOR if "gradient" in name else FLOOR), (seed, name)
        if cpu_library.unavailable():
            continue
        for name, error in errors(scene, "cpu").items():
            floor = GRADIENT_FLOOR / 2 if "gradient" in name else FLOOR / 4
            assert reference[name] <= max(error, floor), (seed, name)


def test_pictures_made_from_the_meta_have_every_digit():
    # A centre 30,000 pixels aside: float32 holds it to 1/512 pixel.
    scene = needles(0, 1.0, "before the camera", count=1)
    scene["means"] = torch.tensor([[2500.123, 0.1, 2.0]])
    scene["scales"] = torch.tensor([[2000.0, 1e-3, 1e-3]])
    scene["opacities"] = torch.tensor([0.9])
    cameras = {
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]]),
        "width": WIDTH,
        "height": HEIGHT,
        "engine": "torch",
    }
    turned = torch.atan2(torch.tensor(0.1), torch.tensor(2500.123)) / 2
    scene["quats"] = torch.tensor([[float(turned.cos()), 0, 0, float(turned.sin())]])
    plain = rasterize(**scene, **cameras)
    assert plain.alpha.max() > 0.1
    scene["means"].requires_grad_()
    rendered, meta = rasterize_with_meta(**scene, **cameras)
    assert meta.means2d.dtype == torch.float32
    for ours, theirs in zip(rendered, plain, strict=True):
        assert torch.equal(ours, theirs)
    meta.means2d.retain_grad()
    rendered.image.sum().backward()
    assert meta.means2d.grad is not None
    assert meta.means2d.grad.abs().sum() > 0
