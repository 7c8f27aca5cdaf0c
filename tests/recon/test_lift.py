"""Maps on Gaussians: against blending weights that are rendered one Gaussian at a time."""

import functools

import pytest
import torch
from torch import Tensor

from recon.gaussians import Gaussians
from recon.lift import Lifter, lift_maps, render_channels
from recon.rasterize import auto_engine
from tests.small_scenes import GAUSSIAN_FIELDS, HEIGHT, WIDTH, random_scene, render

VIEWS, COUNT = 3, 24

ENGINES = [
    "torch",
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(auto_engine("cpu").name != "cpu", reason="no compiled engine"),
    ),
]


def a_scene(dtype: torch.dtype = torch.float64, **more) -> tuple[Gaussians, Tensor, Tensor]:
    """Gaussians, some of them behind the cameras and off the pictures; viewmats and Ks."""
    scene = {k: t.to(dtype) for k, t in random_scene(COUNT, views=VIEWS, **more).items()}
    return Gaussians(*(scene[name] for name in GAUSSIAN_FIELDS)), scene["viewmats"], scene["Ks"]


def some_maps(channels: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(VIEWS, HEIGHT, WIDTH, channels, generator=rng, dtype=torch.float64)


@functools.cache
def blending_weights() -> Tensor:
    """[V, H, W, G] of :func:`a_scene`: what is seen of each Gaussian when it alone is white."""
    scene = random_scene(COUNT, views=VIEWS)
    columns = []
    for number in range(COUNT):
        colors = torch.zeros(COUNT, 3, dtype=torch.float64)
        colors[number] = 1
        columns.append(render(scene | {"colors": colors}).image[..., 0])
    return torch.stack(columns, -1)


def means_by_hand(maps: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
    weights = blending_weights()
    if masks is not None:
        weights = weights * masks[..., None]
    total = weights.sum((0, 1, 2))
    sums = torch.einsum("vhwg,vhwc->gc", weights, maps)
    return torch.where(total[:, None] > 0, sums / total.clamp_min(1e-300)[:, None], 0), total


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 40])
def test_channels_are_the_means_of_the_maps_by_blending_weight(channels: int):
    gaussians, viewmats, Ks = a_scene()
    maps = some_maps(channels)
    found = lift_maps(gaussians, maps, viewmats, Ks, engine="torch")
    means, total = means_by_hand(maps)
    assert found.channels.shape == (COUNT, channels)
    torch.testing.assert_close(found.weight, total.float())
    torch.testing.assert_close(found.channels, means.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree_in_float32(engine: str):
    gaussians, viewmats, Ks = a_scene(torch.float32)
    maps = some_maps(4)
    found = lift_maps(gaussians, maps.float(), viewmats, Ks, engine=engine)
    means, total = means_by_hand(maps)
    torch.testing.assert_close(found.weight, total.float(), rtol=1e-3, atol=1e-3)
    clear = total > 0.1  # of a Gaussian at the threshold of 1/255, engines may differ
    torch.testing.assert_close(found.channels[clear], means[clear].float(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("hidden", [float("nan"), float("inf"), 1e6])
def test_what_a_mask_leaves_out_does_not_count(hidden: float):
    gaussians, viewmats, Ks = a_scene()
    masks = torch.rand(VIEWS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) < 0.5
    maps = some_maps(2)
    spoiled = torch.where(masks[..., None], maps, hidden)
    found = lift_maps(gaussians, spoiled, viewmats, Ks, masks=masks, engine="torch")
    means, total = means_by_hand(maps, masks)
    torch.testing.assert_close(found.weight, total.float())
    torch.testing.assert_close(found.channels, means.float(), rtol=1e-5, atol=1e-6)


def test_what_no_view_sees_has_weight_and_channels_of_zero():
    gaussians, viewmats, Ks = a_scene()
    total = blending_weights().sum((0, 1, 2))
    found = lift_maps(gaussians, 1 + some_maps(2) ** 2, viewmats, Ks, engine="torch")
    assert 0 < int((total == 0).sum()) < COUNT, "the scene has some of both"
    assert torch.equal(found.seen, total > 0)
    assert (found.channels[~found.seen] == 0).all()
    assert (found.channels[found.seen] > 0).all()


@pytest.mark.parametrize(
    "masks", [None, torch.zeros(VIEWS, HEIGHT, WIDTH, dtype=torch.bool)], ids=["none", "all out"]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_to_see_gives_no_nan(engine: str, masks: Tensor | None):
    gaussians, viewmats, Ks = a_scene(torch.float32)
    if masks is None:  # all of them behind the cameras
        gaussians = Gaussians(
            gaussians.means - torch.tensor([0.0, 0, 100]),
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
        )
    found = lift_maps(gaussians, some_maps(2).float(), viewmats, Ks, masks=masks, engine=engine)
    assert not found.seen.any()
    assert (found.channels == 0).all()


@pytest.mark.parametrize("broken", ["means", "quats", "scales", "opacities"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_gaussian_that_is_not_finite_is_not_seen_and_spoils_no_other(engine: str, broken: str):
    gaussians, viewmats, Ks = a_scene(torch.float32)
    at = int(blending_weights().sum((0, 1, 2)).argmax())
    getattr(gaussians, broken)[at] = torch.nan
    found = lift_maps(gaussians, some_maps(2).float(), viewmats, Ks, engine=engine)
    assert not found.seen[at]
    assert found.channels.isfinite().all()
    assert found.seen.any()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_map_comes_back_as_it_was(engine: str):
    gaussians, viewmats, Ks = a_scene(torch.float32)
    maps = torch.tensor([0.25, -3.0, 7.0, 1.0]).expand(VIEWS, HEIGHT, WIDTH, 4)
    found = lift_maps(gaussians, maps, viewmats, Ks, engine=engine)
    torch.testing.assert_close(
        found.channels[found.seen], maps[0, 0, 0].expand(int(found.seen.sum()), 4)
    )
    back = render_channels(gaussians, found.channels, viewmats, Ks, WIDTH, HEIGHT, engine=engine)
    assert back.image.shape == maps.shape
    torch.testing.assert_close(back.image, maps * back.alpha[..., None], rtol=1e-4, atol=1e-4)


def test_views_one_by_one_are_views_at_once():
    gaussians, viewmats, Ks = a_scene()
    maps = some_maps(3)
    lifter = Lifter(gaussians, 3, engine="torch")
    for view in range(VIEWS):
        lifter.add(maps[view : view + 1], viewmats[view : view + 1], Ks[view : view + 1])
    one_by_one, at_once = lifter.lifted(), lift_maps(gaussians, maps, viewmats, Ks, engine="torch")
    torch.testing.assert_close(one_by_one.channels, at_once.channels)
    torch.testing.assert_close(one_by_one.weight, at_once.weight)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_view_dependent_colours_do_not_matter(degree: int):
    plain, viewmats, Ks = a_scene()
    harmonics = torch.randn(COUNT, (degree + 1) ** 2, 3, dtype=torch.float64)
    shiny = Gaussians(plain.means, plain.quats, plain.scales, plain.opacities, harmonics)
    maps = some_maps(2)
    one, other = (lift_maps(g, maps, viewmats, Ks, engine="torch") for g in (plain, shiny))
    torch.testing.assert_close(one.channels, other.channels, rtol=0, atol=0)
    drawn = [
        render_channels(g, one.channels, viewmats, Ks, WIDTH, HEIGHT, engine="torch").image
        for g in (plain, shiny)
    ]
    torch.testing.assert_close(*drawn, rtol=0, atol=0)


def test_lifting_works_without_gradients_and_leaves_none():
    gaussians, viewmats, Ks = a_scene()
    gaussians.means.requires_grad_()
    with torch.no_grad():
        found = lift_maps(gaussians, some_maps(2), viewmats, Ks, engine="torch")
    assert not found.channels.requires_grad
    assert gaussians.means.grad is None


def test_what_does_not_fit_is_refused():
    gaussians, viewmats, Ks = a_scene()
    maps = some_maps(2)
    batch = Gaussians(*(getattr(gaussians, name)[None] for name in GAUSSIAN_FIELDS))
    with pytest.raises(ValueError, match="batch of scenes"):
        lift_maps(batch, maps, viewmats, Ks)
    with pytest.raises(ValueError, match="batch of scenes"):
        render_channels(batch, torch.zeros(COUNT, 2), viewmats, Ks, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match=r"expected \[V, H, W, 3\]"):
        Lifter(gaussians, 3).add(maps, viewmats, Ks)
    with pytest.raises(ValueError, match="expected"):
        lift_maps(gaussians, maps[0], viewmats, Ks)
    with pytest.raises(ValueError, match="3 maps need as many"):
        lift_maps(gaussians, maps, viewmats[:2], Ks)
    with pytest.raises(ValueError, match="masks are"):
        lift_maps(gaussians, maps, viewmats, Ks, masks=torch.ones(VIEWS, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="masks are"):
        lift_maps(gaussians, maps, viewmats, Ks, masks=torch.ones(VIEWS, HEIGHT, WIDTH))
    maps[1, 2, 3, 0] = torch.nan
    with pytest.raises(ValueError, match="view 1 holds NaN"):
        lift_maps(gaussians, maps, viewmats, Ks, engine="torch")
    with pytest.raises(ValueError, match="at least one channel"):
        Lifter(gaussians, 0)
    with pytest.raises(ValueError, match="colors"):
        render_channels(gaussians, torch.zeros(COUNT + 1, 2), viewmats, Ks, WIDTH, HEIGHT)
