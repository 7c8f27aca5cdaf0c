"""The compiled engine against the torch engine in float64, on every instruction set at hand."""

import warnings
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from splat_scenes import (
    GAUSSIAN_FIELDS,
    KINDS,
    NEAR,
    Scene,
    Shape,
    delicate_pixels,
    instruction_sets,
    leaves,
    random_scene,
    render,
)
from torch import Tensor

from recon.rasterize import Rendered, auto_engine, cpu_library, engines, rasterize
from recon.rotations import matrices_from_quats

compiled = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")


@pytest.fixture
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cpu_library.INSTRUCTION_SET_VARIABLE, request.param)
    return request.param


def shapes() -> st.SearchStrategy[Shape]:
    return st.builds(
        Shape,
        gaussians=st.sampled_from([1, 2, 7, 60]),
        views=st.integers(1, 2),
        channels=st.sampled_from([1, 2, 3, 4, 9, 32]),
        width=st.integers(1, 40),
        height=st.integers(1, 40),
    )


def compare(scene: Scene, shape: Shape, seed: int) -> tuple[int, int]:
    """Hold picture and gradients against float64; returns pixels that were left out, and all.

    A pixel is left out where a pair lies so near a threshold that rounding decides.
    """
    delicate = delicate_pixels(scene, shape.width, shape.height)
    mine, exact = leaves(scene), leaves(scene, torch.float64)
    ours = render(mine, shape.width, shape.height)
    theirs = render(exact, shape.width, shape.height, "torch")

    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(maps.shape, generator=generator) for maps in ours]
    weights[0][delicate] = 0
    weights[1][delicate] = 0
    weights[2][delicate] = 0
    # The expected depth of a pixel with next to nothing in it is a ratio of two tiny numbers, whose
    # gradient to the opacity cancels: what is left is the rounding of the depth itself.
    weights[1][theirs.alpha < 0.02] = 0
    # That of the others too, in part: d (D / a) = dD / a - (D / a) da / a, two terms of this size.
    terms = (weights[1].abs() * theirs.depth.detach() * theirs.alpha.clamp_min(1e-3).log()).sum()
    cancelled = dict.fromkeys(exact, torch.zeros(()))
    if terms.requires_grad:
        found = torch.autograd.grad(
            terms, list(exact.values()), retain_graph=True, materialize_grads=True
        )
        cancelled = dict(zip(exact, found, strict=True))
    for maps, reference in zip(ours, theirs, strict=True):
        assert maps.isfinite().all()
        error = (maps.double() - reference)[~delicate].abs()
        assert error.numel() == 0 or error.mean() < 1e-5

    # Gradients may cancel to almost nothing. Those of the colours are plain sums of weights and
    # tell how large the terms are: in the largest of a few draws, for they may cancel too.
    draws = [weights[0], *(torch.randn(weights[0].shape, generator=generator) for _ in range(3))]
    flow = torch.zeros(())
    for drawn in draws if theirs.image.requires_grad else []:
        (found,) = torch.autograd.grad(
            theirs.image,
            exact["colors"],
            drawn.masked_fill(delicate[..., None], 0).double(),
            retain_graph=True,
            materialize_grads=True,
        )
        flow = torch.maximum(flow, found.norm())

    sum((m * w).sum() for m, w in zip(ours, weights, strict=True)).backward()
    sum((m * w).sum() for m, w in zip(theirs, weights, strict=True)).backward()
    for name, leaf in mine.items():
        reference = exact[name].grad
        if reference is None:  # nothing was rendered at all
            assert not leaf.grad.any()
            continue
        error = (leaf.grad.double() - reference).norm()
        rounding = 4 * torch.finfo(torch.float32).eps * cancelled[name].norm()
        assert error <= 1e-4 * (reference.norm() + flow) + rounding, (
            f"{name}: off by {error:.1e} of {reference.norm():.1e}"
        )
    return int(delicate.sum()), delicate.numel()


@compiled
@pytest.mark.parametrize("instruction_set", instruction_sets(), indirect=True)
def test_picture_and_gradients_equal_float64(instruction_set):
    pixels = Counter()

    @given(
        shape=shapes(),
        kinds=st.sets(st.sampled_from(KINDS), min_size=1, max_size=4),
        seed=st.integers(0, 2**31),
    )
    @example(shape=Shape(1, 2, 3, width=24, height=3), kinds={"aside"}, seed=166727050)
    @example(
        shape=Shape(2, 1, 1, width=14, height=1), kinds={"at near", "huge", "tiny", "plain"}, seed=0
    )
    @example(shape=Shape(1, 1, 1, width=16, height=1), kinds={"at near"}, seed=0)
    @settings(max_examples=60, deadline=None)
    def check(shape: Shape, kinds: set[str], seed: int):
        scene = random_scene(shape, tuple(sorted(kinds)), seed)
        left_out, total = compare(scene, shape, seed)
        pixels.update(left_out=left_out, total=total)

    check()
    assert pixels["left_out"] < 0.05 * pixels["total"]


@compiled
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_alone(kind):
    for seed in range(3):
        for gaussians in (1, 12):
            shape = Shape(gaussians, 2, 3, 33, 21)
            compare(random_scene(shape, (kind,), seed), shape, seed)


@compiled
@pytest.mark.parametrize(("width", "height"), [(100, 70), (200, 3), (3, 200), (401, 390)])
def test_every_tile_size(width, height):
    """16 and 32 pixels, cut off at the right and at the bottom."""
    shape = Shape(150, 1, 3, width, height)
    kinds = ("plain", "tiny", "needle") if width > 300 else ("plain", "huge", "needle")
    compare(random_scene(shape, kinds, seed=1), shape, seed=1)


@compiled
def test_needles_of_1_to_1000_keep_their_conic():
    """Where a float32 projection loses the covariance's determinant: 300 pixels by 0.5."""
    shape = Shape(40, 1, 3, 120, 90)
    scene = random_scene(shape, ("needle",), seed=3)
    scene["means"][:, 2] = 2
    scene["backgrounds"][:] = 0
    picture = render(scene, 120, 90)
    exact = render({k: t.double() for k, t in scene.items()}, 120, 90, "torch")
    assert exact.alpha.max() > 0.5
    assert (picture.alpha.double() - exact.alpha).abs().max() < 1e-3
    assert (picture.image.double() - exact.image).abs().mean() < 1e-6


@compiled
@pytest.mark.parametrize("far_away", [30_000.0, 65_000.0])
def test_large_images_lose_no_precision(far_away):
    """A splat at column 65,000 of a strip looks as at column 10."""
    scene = random_scene(Shape(6, 1, 3, 24, 4), ("plain",), seed=5)
    scene["means"][:, 0] *= 0.2  # within the slope bounds of either picture
    scene["Ks"][:, 0, 2] = 11.5  # exact in float32 wherever it is moved
    here = render(scene, 24, 4)
    scene["Ks"][:, 0, 2] += far_away
    there = render(scene, int(far_away) + 24, 4)
    close = there.image[:, :, int(far_away) :]
    assert (close - here.image).abs().mean() < 1e-6


@compiled
def test_equal_depths_blend_in_input_order():
    scene = random_scene(Shape(90, 1, 3, 16, 16), ("plain",), seed=2)
    scene["viewmats"][:] = torch.eye(4)
    scene["means"][:, 2] = 3
    picture = render(scene, 16, 16)
    exact = render({k: t.double() for k, t in scene.items()}, 16, 16, "torch")
    torch.testing.assert_close(picture.image.double(), exact.image, atol=1e-5, rtol=0)


@compiled
def test_exactly_at_near_and_far_is_rendered():
    scene = random_scene(Shape(2, 1, 1, 9, 9), seed=0)
    scene["viewmats"][:] = torch.eye(4)
    scene["means"] = torch.tensor([[0.0, 0, 2.0], [0, 0, 4.0]])
    assert render(scene, 9, 9, near_plane=2.0, far_plane=4.0).depth.max() > 2
    assert not render(scene, 9, 9, near_plane=2.0001, far_plane=3.9999).alpha.any()


@compiled
@pytest.mark.parametrize("field", GAUSSIAN_FIELDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_left_out_with_zero_gradient(field, value):
    shape = Shape(20, 2, 4, 20, 20)
    scene = random_scene(shape, seed=4)
    scene[field][7].view(-1)[-1] = value
    scene["quats"][11] = 0
    whole = leaves(scene)
    rest = [i for i in range(20) if i not in (7, 11)]
    part = leaves({k: t[rest] if k in GAUSSIAN_FIELDS else t for k, t in scene.items()})
    for a, b in zip(render(whole, 20, 20), render(part, 20, 20), strict=True):
        assert torch.equal(a, b)
        (a.square().sum() + b.square().sum()).backward(retain_graph=True)
    for name in GAUSSIAN_FIELDS:
        assert not whole[name].grad[[7, 11]].any()
        torch.testing.assert_close(whole[name].grad[rest], part[name].grad)


@compiled
def test_nothing_to_render_gives_the_background():
    scene = random_scene(Shape(0, 2, 3, 7, 5))
    picture = render(leaves(scene), 7, 5)
    assert torch.equal(picture.image.detach(), scene["backgrounds"].expand(2, 5, 7, 3))
    assert not picture.alpha.any()
    picture.image.sum().backward()

    nowhere = random_scene(Shape(3, 0, 3, 7, 5))
    assert render(nowhere, 7, 5).image.shape == (0, 5, 7, 3)


@pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])
def test_a_batch_of_scenes_equals_scenes_alone(engine):
    scenes = [random_scene(Shape(9, 2, 3, 12, 8), seed=seed) for seed in range(3)]
    batch = {name: torch.stack([s[name] for s in scenes]) for name in scenes[0]}
    together = render(batch, 12, 8, engine)
    assert together.image.shape == (3, 2, 8, 12, 3)
    assert together.depth.shape == (3, 2, 8, 12)
    for index, scene in enumerate(scenes):
        # A background [V, C] per scene has the batch in front; [C] alone would be everybody's.
        for a, b in zip(together, render(scene, 12, 8, engine), strict=True):
            assert torch.equal(a[index], b)


def test_a_batch_that_does_not_fit_is_named():
    batch = {k: t.expand(2, *t.shape) for k, t in random_scene(Shape(4, 1, 3, 5, 5)).items()}
    batch["backgrounds"] = batch["backgrounds"][0]
    with pytest.raises(ValueError, match=r"Ks is \(1, 1, 3, 3\), expected 2 scenes as means"):
        render(batch | {"Ks": batch["Ks"][:1]}, 5, 5, "torch")


def test_backgrounds_of_views_and_of_a_batch():
    scene = random_scene(Shape(5, 2, 3, 6, 6))
    per_view = torch.rand(2, 3)
    picture = render(scene | {"backgrounds": per_view}, 6, 6, "torch")
    assert picture.image.shape == (2, 6, 6, 3)


@compiled
def test_world_and_camera_may_move_together():
    """A rigid motion of everything changes nothing: gradients to viewmats are consistent."""
    shape = Shape(30, 2, 3, 24, 24)
    scene = random_scene(shape, seed=8)
    motion = torch.eye(4)
    motion[:3, :3] = matrices_from_quats(torch.tensor([0.9, 0.1, -0.3, 0.2]))
    motion[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    inverse = torch.linalg.inv(motion)
    moved = dict(scene)
    moved["means"] = scene["means"] @ motion[:3, :3].T + motion[:3, 3]
    moved["viewmats"] = scene["viewmats"] @ inverse
    from recon.rotations import multiply_quats, quats_from_matrices

    moved["quats"] = multiply_quats(quats_from_matrices(motion[:3, :3]), scene["quats"])
    a, b = render(scene, 24, 24), render(moved, 24, 24)
    assert (a.image - b.image).abs().mean() < 1e-5


# ---- the seam --------------------------------------------------------------------------------


@compiled
def test_auto_is_the_compiled_engine_and_says_why():
    choice = auto_engine("cpu")
    assert (choice.name, choice.fallback) == ("cpu", False)
    assert cpu_library.instruction_sets()[0] in choice.why
    assert auto_engine("cpu", torch.float64).name == "torch"


def test_without_the_library_auto_falls_back_with_one_warning(monkeypatch):
    monkeypatch.setattr(cpu_library, "unavailable", lambda: "no compiler was there")
    engines._warn_once.cache_clear()
    scene = random_scene(Shape(3, 1, 3, 6, 6))
    with pytest.warns(UserWarning, match=r"engine 'torch'.*no compiler was there"):
        first = render(scene, 6, 6, "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render(scene, 6, 6, "auto")  # says it once
    assert torch.equal(first.image, render(scene, 6, 6, "torch").image)
    with pytest.raises(ValueError, match="engine 'cpu' cannot render: no compiler was there"):
        render(scene, 6, 6, "cpu")


@compiled
def test_what_it_cannot_render_is_named(monkeypatch):
    scene = random_scene(Shape(3, 1, 3, 6, 6))
    with pytest.raises(ValueError, match=r"float32 tensors on the CPU, not torch\.float64"):
        render({k: t.double() for k, t in scene.items()}, 6, 6)
    with pytest.raises(ValueError, match="up to 65535 pixels a side, not 70000x6"):
        render(scene, 70_000, 6)
    monkeypatch.setenv(cpu_library.INSTRUCTION_SET_VARIABLE, "mmx")
    with pytest.raises(ValueError, match=r"mmx is not available here; valid: .*portable"):
        render(scene, 6, 6)


def test_cameras_without_a_focal_length_are_refused():
    scene = random_scene(Shape(3, 1, 3, 6, 6))
    scene["Ks"][:, 1, 1] = 0
    with pytest.raises(ValueError, match="focal lengths above 0"):
        render(scene, 6, 6, "torch")


@compiled
def test_strided_inputs_are_read_right():
    scene = random_scene(Shape(12, 2, 3, 10, 10), seed=6)
    strided = {k: t.repeat_interleave(2, 0)[::2] for k, t in scene.items()}
    strided["colors"] = scene["colors"].T.contiguous().T
    strided["backgrounds"] = scene["backgrounds"]
    assert not strided["means"].is_contiguous()
    assert torch.equal(render(strided, 10, 10).image, render(scene, 10, 10).image)


@compiled
def test_defaults_of_rasterize_render_on_black():
    scene = random_scene(Shape(5, 1, 3, 8, 8))
    del scene["backgrounds"]
    black: Tensor = rasterize(**scene, width=8, height=8, engine="cpu").image
    reference: Rendered = rasterize(**scene, width=8, height=8, engine="torch")
    torch.testing.assert_close(black, reference.image, atol=1e-5, rtol=1e-5)
    assert NEAR > 0
