"""Numbers of strangers: the reference engine renders them, or refuses them in one sentence."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_scenes import GAUSSIAN_FIELDS, hostile_scene, render

from recon.rasterize import compositing, rasterize, rasterize_with_meta
from recon.rasterize.cpu_library import instruction_sets

compiled = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")

# Beyond float32, and the smallest that float64 holds.
ABSURD = (1e200, -1e200, 1e300, 1e-300, 5e-324, 1.7e308)


@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    near=st.sampled_from([1e-30, 0.01, 0.2]),
    far=st.sampled_from([1e10, 1e38, float("inf")]),
)
@settings(max_examples=150, deadline=None)
def test_hostile_scenes_are_rendered_or_refused(seed, dtype, near, far):
    dice = random.Random(seed)
    scene, width, height = hostile_scene(dice)
    scene = {name: t.to(dtype) for name, t in scene.items()}
    if dtype == torch.float64:
        for tensor in scene.values():
            if tensor.numel() and dice.random() < 0.2:
                tensor.view(-1)[dice.randrange(tensor.numel())] = dice.choice(ABSURD)
    scene = {name: t.requires_grad_() for name, t in scene.items()}
    try:
        picture = render(scene, width, height, "torch", near_plane=near, far_plane=far)
    except ValueError:
        return
    views, channels = len(scene["viewmats"]), scene["colors"].shape[1]
    assert picture.image.shape == (views, height, width, channels)
    assert ((picture.alpha >= 0) & (picture.alpha <= 1)).all()
    assert picture.depth.isfinite().all()
    if not any(maps.requires_grad for maps in picture):
        return
    torch.stack([maps.mean() for maps in picture]).sum().backward()
    if (
        any(
            scene[n].detach().abs().nan_to_num(0, 0).gt(1e20).any()
            for n in ("colors", "backgrounds")
            if n in scene
        )
        or (scene["opacities"] > 1).any()
    ):
        return  # what flows back may itself have overflowed
    for name in GAUSSIAN_FIELDS:
        gradient = scene[name].grad
        assert gradient is None or not gradient.isnan().any(), name


def plain(**changes) -> dict:
    call = {
        "means": torch.tensor([[0.0, 0, 4.0]]),
        "quats": torch.tensor([[1.0, 0, 0, 0]]),
        "scales": torch.full((1, 3), 0.3),
        "opacities": torch.tensor([0.8]),
        "colors": torch.tensor([[0.2, 0.5, 0.9]]),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[20.0, 0, 8], [0, 20, 8], [0, 0, 1]]]),
        "width": 16,
        "height": 16,
        "engine": "torch",
    }
    return call | changes


@pytest.mark.parametrize("function", [rasterize, rasterize_with_meta])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 16.0}, "width must be a whole number of pixels, not 16.0"),
        ({"height": True}, "height must be a whole number"),
        ({"width": 10**30}, "pictures of 1000000000000000000000000000000 x 16 pixels"),
        ({"width": 10**9, "height": 10**9}, "GiB: render fewer"),
        ({"width": -3}, "must have pixels"),
        ({"near_plane": float("nan")}, "near_plane"),
        ({"near_plane": "0.1"}, "near_plane must be a number, not '0.1'"),
        ({"near_plane": 1e39}, "near_plane < far_plane"),
        ({"far_plane": None}, "far_plane must be a number"),
        ({"means": [[0, 0, 4]]}, "means must be a tensor, not list"),
        ({"scales": None}, "scales must be a tensor, not NoneType"),
        ({"backgrounds": [0, 0, 0]}, "backgrounds must be a tensor, not list"),
        ({"means": torch.tensor([[0, 0, 4]])}, "means is torch.int64|float32 or float64"),
        ({"backgrounds": torch.tensor([0, torch.nan, 0])}, "backgrounds must be finite"),
        ({"Ks": torch.full((1, 3, 3), torch.inf)}, "NaN or infinity"),
    ],
)
def test_calls_that_cannot_be_meant_are_refused_in_a_sentence(function, changes, message):
    with pytest.raises(ValueError, match=message):
        function(**plain(**changes))


def test_an_infinite_far_plane_is_none():
    near, far = rasterize(**plain()), rasterize(**plain(far_plane=float("inf")))
    assert torch.equal(near.image, far.image)
    assert near.alpha.max() > 0.5


def test_a_radius_beyond_all_integers_is_the_largest():
    call = plain(scales=torch.tensor([[1e19, 0.1, 0.1]]))
    _, meta = rasterize_with_meta(**call)
    assert meta.radii[0, 0].tolist() == [2**31 - 128, meta.radii[0, 0, 1]]
    assert 0 < meta.radii[0, 0, 1] < 2**31 - 1


def test_lists_beyond_the_memory_are_refused():
    # 2^20 boxes over 2^26 tiles each: never made, only counted.
    boxes = torch.tensor([[0, 32767, 0, 32767]]).expand(2**20, 4)
    with pytest.raises(ValueError, match=r"pairs of a Gaussian and a tile need .* GiB"):
        compositing.list_tiles(boxes, 32768, 32768)


@pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])
@pytest.mark.parametrize("scale", [2e19, 1e30, 3.4e38, -3.4e38])
def test_a_scale_whose_square_float32_cannot_hold_leaves_its_gaussian_out(engine, scale):
    call = plain(engine=engine)
    alone = rasterize(**call)
    for name in GAUSSIAN_FIELDS:
        call[name] = call[name].repeat_interleave(2, 0).clone()
    call["scales"][1, 1] = scale
    leaves = {name: call[name].requires_grad_() for name in GAUSSIAN_FIELDS}
    both = rasterize(**call)
    assert torch.equal(both.image, alone.image)
    (both.image.sum() + both.depth.sum()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert (leaf.grad[1] == 0).all(), name
