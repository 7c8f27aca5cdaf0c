"""Where Gaussians lie in the pictures: closed forms, agreement of engines, and the gradient."""

import math
import re

import pytest
import splat_scenes
import torch
from small_scenes import (
    DOUBLE,
    GAUSSIAN_FIELDS,
    HEIGHT,
    WIDTH,
    Scene,
    assert_same,
    one_gaussian,
    random_scene,
    render,
)
from splat_scenes import instruction_sets

from recon.rasterize import Meta, Rendered, auto_engine, cpu_library, rasterize_with_meta

compiled = pytest.mark.skipif(
    cpu_library.unavailable() is not None, reason="the compiled engine was not built"
)
SIZE = {"width": WIDTH, "height": HEIGHT}


def render_with_meta(scene: Scene, engine: str = "torch", **options) -> tuple[Rendered, Meta]:
    return rasterize_with_meta(**scene, **(SIZE | {"engine": engine} | options))


def single(scene: Scene) -> Scene:
    return {name: t.float() for name, t in scene.items()}


def test_a_gaussian_on_the_axis_has_the_closed_form():
    _, meta = render_with_meta(one_gaussian(means=[[0.4, -0.2, 4.0]], scales=[[0.3, 0.1, 0.2]]))
    assert meta.depths.tolist() == [[4.0]]
    torch.testing.assert_close(meta.means2d, torch.tensor([[[11.5, 5.5]]], dtype=DOUBLE))
    # The camera's focal length is 20 and the depth 4, so the local affine map is u = 5 (x - 0.1 z).
    across = 5**2 * (0.3**2 + (0.1 * 0.2) ** 2) + 0.3
    down = 5**2 * (0.1**2 + (0.05 * 0.2) ** 2) + 0.3
    reach = math.sqrt(2 * math.log(255 * 0.8))
    expected = [math.ceil(reach * math.sqrt(across)), math.ceil(reach * math.sqrt(down))]
    assert meta.radii.tolist() == [[expected]]
    assert meta.radii.dtype == torch.int32


CULLED = {
    "behind": {"means": [[0.0, 0, -4.0]]},
    "before the near plane": {"means": [[0.0, 0, 0.005]]},
    "beyond the far plane": {"means": [[0.0, 0, 2e10]]},
    "beside the picture": {"means": [[900.0, 0, 4.0]]},
    "transparent": {"opacities": [0.5 / 255]},
    "not a number": {"colors": [[math.nan, 0, 0]]},
    "infinite": {"scales": [[math.inf, 0.1, 0.1]]},
    "without a rotation": {"quats": [[0.0, 0, 0, 0]]},
}


@pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])
@pytest.mark.parametrize("change", CULLED.values(), ids=CULLED)
def test_what_is_not_rendered_has_no_radius(engine, change):
    both = {
        name: torch.cat([a, b]) if name in GAUSSIAN_FIELDS else a
        for (name, a), b in zip(
            one_gaussian().items(), one_gaussian(**change).values(), strict=True
        )
    }
    rendered, meta = render_with_meta(single(both), engine)
    assert (meta.radii[0, 0] > 0).all()
    assert meta.radii[0, 1].tolist() == [0, 0]
    alone, alone_meta = render_with_meta(single(one_gaussian()), engine)
    assert_same(rendered, alone, atol=0, rtol=0)
    for both_values, values in zip(meta, alone_meta, strict=True):
        assert torch.equal(both_values[:, :1], values)


def test_outside_its_radii_a_gaussian_leaves_no_trace():
    scene = random_scene(1, seed=4) | {"means": torch.tensor([[0.1, -0.1, 2.5]], dtype=DOUBLE)}
    rendered, meta = render_with_meta(scene)
    columns = (torch.arange(WIDTH) + 0.5 - meta.means2d[0, 0, 0]).abs()
    rows = (torch.arange(HEIGHT) + 0.5 - meta.means2d[0, 0, 1]).abs()
    hit = rendered.alpha[0] > 0
    assert columns[hit.any(0)].max() <= meta.radii[0, 0, 0]
    assert rows[hit.any(1)].max() <= meta.radii[0, 0, 1]
    # Nor are they wider than they must be, by more than the rounding up and one pixel.
    assert columns[hit.any(0)].max() > meta.radii[0, 0, 0] - 2


@compiled
def test_the_compiled_engine_agrees_with_the_reference():
    scene = single(random_scene(80, views=3, seed=5))
    mine, theirs = (render_with_meta(scene, engine)[1] for engine in ("cpu", "torch"))
    assert 0 < (theirs.radii > 0).all(-1).sum() < 3 * 80
    assert mine.radii.dtype == torch.int32
    # Rounded up, of lengths that differ in the last digits of float32.
    differ = (mine.radii - theirs.radii).abs()
    assert differ.max() <= 1
    assert (differ > 0).float().mean() < 0.01
    torch.testing.assert_close(mine.means2d, theirs.means2d, atol=0, rtol=3e-7)
    torch.testing.assert_close(mine.depths, theirs.depths, atol=0, rtol=3e-7)


@compiled
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_radii_are_those_of_all_kinds_of_gaussians(monkeypatch, instruction_set, seed):
    monkeypatch.setenv(cpu_library.INSTRUCTION_SET_VARIABLE, instruction_set)
    scene = splat_scenes.random_scene(
        splat_scenes.Shape(301, 2, 3, 40, 30), splat_scenes.KINDS, seed=seed
    )
    scene["scales"][7] = 1e10
    size = {"width": 40, "height": 30, "near_plane": 0.2}
    mine, theirs = (
        rasterize_with_meta(**scene, **size, engine=engine)[1] for engine in ("cpu", "torch")
    )
    # One that all but reaches the picture is in only one of them.
    assert (mine.visible != theirs.visible).float().mean() < 0.01
    assert (mine.radii != theirs.radii).float().mean() < 0.02
    both = mine.visible & theirs.visible
    differ = (mine.radii - theirs.radii).abs()[both]
    assert (differ <= 1 + 1e-6 * theirs.radii[both]).all()
    torch.testing.assert_close(mine.means2d[both], theirs.means2d[both], atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])
def test_visible_ids_are_what_any_view_shows_and_the_rest_has_no_gradient(engine):
    scene = single(random_scene(80, views=3, seed=5))
    leaves = {name: t.requires_grad_() for name, t in scene.items()}
    rendered, meta = render_with_meta(leaves, engine)
    shown = meta.visible_ids
    assert 0 < len(shown) < 80
    assert meta.visible.shape == (3, 80)
    assert torch.equal(shown, meta.visible.any(0).nonzero()[:, 0])
    rendered.image.sum().backward()
    hidden = torch.ones(80, dtype=torch.bool)
    hidden[shown] = False
    for name in GAUSSIAN_FIELDS:
        assert not leaves[name].grad[hidden].any()


@compiled
def test_the_compiled_engine_renders_only_those_that_have_a_radius():
    scene = single(random_scene(80, views=1, seed=5))
    scene["opacities"].requires_grad_()
    rendered, meta = render_with_meta(scene, "cpu")
    (flow,) = torch.autograd.grad(rendered.alpha.sum(), scene["opacities"])
    seen = (meta.radii[0] > 0).all(-1)
    assert not flow[~seen].any()
    assert (flow[seen] != 0).float().mean() > 0.9


@pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])
def test_pictures_and_gradients_are_those_without_meta(engine):
    scene = single(random_scene(40, views=2, seed=6))
    scene["backgrounds"] = torch.tensor([0.1, 0.5, 0.9])
    leaves = {name: t.requires_grad_() for name, t in scene.items()}
    alone = render(leaves, engine=engine)
    together, _ = render_with_meta(leaves, engine)
    assert_same(alone, together, atol=0, rtol=0)
    first, second = (
        torch.autograd.grad(r.image.square().sum() + r.depth.sum(), list(leaves.values()))
        for r in (alone, together)
    )
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_gradient_of_means2d_is_that_of_finite_differences():
    scene = random_scene(12, views=2, seed=8)
    # In view of both cameras: there a footprint does not depend on the principal point.
    narrow = torch.tensor([0.3, 0.3, 0.5], dtype=DOUBLE)
    scene["means"] = (scene["means"] * narrow + torch.tensor([0, 0, 2.0])).requires_grad_()
    weights = torch.rand(2, HEIGHT, WIDTH, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))

    def loss_of(Ks: torch.Tensor):
        rendered, meta = render_with_meta(scene | {"Ks": Ks})
        return (rendered.alpha * weights).sum(), meta

    loss, meta = loss_of(scene["Ks"])
    meta.means2d.retain_grad()
    loss.backward()
    assert meta.means2d.grad is not None
    assert (meta.radii > 0).all()
    # Moving the principal point moves all centres of a view together, and nothing else.
    step = 1e-6
    for axis in range(2):
        ends = []
        for sign in (1, -1):
            Ks = scene["Ks"].clone()
            Ks[0, axis, 2] += sign * step
            ends.append(loss_of(Ks)[0].item())
        slope = (ends[0] - ends[1]) / (2 * step)
        found = meta.means2d.grad[0, :, axis].sum().item()
        assert found == pytest.approx(slope, rel=1e-4, abs=1e-6)


@compiled
def test_the_compiled_engine_gives_values_alone_and_says_so_when_asked_for_gradients():
    scene = single(one_gaussian())
    scene["means"].requires_grad_()
    _, meta = render_with_meta(scene, "cpu")
    assert not any(values.requires_grad for values in meta)
    with pytest.raises(RuntimeError, match="retain_grad"):
        meta.means2d.retain_grad()


@pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])
@pytest.mark.parametrize(("gaussians", "views"), [(0, 2), (3, 0)])
def test_nothing_to_render_has_the_shapes_of_nothing(engine, gaussians, views):
    scene = single(random_scene(gaussians, views=views))
    rendered, meta = render_with_meta(scene, engine)
    assert rendered.image.shape == (views, HEIGHT, WIDTH, 3)
    assert meta.radii.shape == meta.means2d.shape == (views, gaussians, 2)
    assert meta.depths.shape == (views, gaussians)
    assert meta.radii.dtype == torch.int32


def test_a_batch_of_scenes_is_refused():
    batch = {name: t[None] for name, t in random_scene(4).items()}
    with pytest.raises(ValueError, match=re.escape("means is (1, 4, 3), expected (*, 3)")):
        render_with_meta(batch)


@pytest.mark.skipif(
    not torch.cuda.is_available() or auto_engine("cuda").name != "gsplat",
    reason="gsplat's rasteriser needs CUDA",
)
def test_gsplats_meta_is_ours_where_both_render():
    scene = {name: t.float().cuda() for name, t in random_scene(80, views=2, seed=5).items()}
    scene["means"].requires_grad_()
    gradients, metas = [], []
    for engine in ("torch", "gsplat"):
        rendered, meta = render_with_meta(scene, engine)
        meta.means2d.retain_grad()
        rendered.image.square().sum().backward()
        metas.append(meta)
        gradients.append(meta.means2d.grad)
    ours, theirs = metas
    seen = (ours.radii > 0).all(-1)
    assert (theirs.radii[seen] > 0).all()  # it keeps some that reach no pixel centre as well
    assert (ours.radii[seen] - theirs.radii[seen]).abs().max() <= 1
    torch.testing.assert_close(ours.means2d[seen], theirs.means2d[seen], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(ours.depths[seen], theirs.depths[seen])
    torch.testing.assert_close(gradients[0][seen], gradients[1][seen], atol=1e-3, rtol=1e-2)
