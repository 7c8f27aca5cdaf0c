"""What `rasterize` does around an engine: choosing one, refusing bad input, agreement."""

import math

import pytest
import torch
from small_scenes import GAUSSIAN_FIELDS, assert_same, random_scene, render


def test_autocast_does_not_reach_the_renderer():
    scene = {name: t.float() for name, t in random_scene(20, seed=12).items()}
    with torch.autocast("cpu", torch.bfloat16):
        rendered = render(scene)
    assert_same(rendered, render(scene), atol=0, rtol=0)


def test_auto_renders_on_the_cpu():
    scene = random_scene(5)
    assert_same(render(scene, engine="auto"), render(scene))


def test_unknown_engine_lists_the_valid_ones():
    with pytest.raises(ValueError, match="valid: auto, cpu, torch, gsplat"):
        render(random_scene(2), engine="opengl")


def test_gsplat_engine_refuses_the_cpu_in_a_sentence():
    with pytest.raises(ValueError, match="float32 tensors on CUDA"):
        render(random_scene(2), engine="gsplat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"quats": torch.zeros(4, 3)},
            r"quats is \(4, 3\), expected \(4, 4\) to fit means \(4, 3\)",
        ),
        ({"opacities": torch.zeros(4, 1)}, r"opacities is \(4, 1\), expected \(4,\)"),
        ({"scales": torch.zeros(5, 3)}, r"scales is \(5, 3\).*means \(4, 3\)"),
        ({"colors": torch.zeros(4)}, r"colors is \(4,\), expected \(4, \*\)"),
        ({"colors": torch.zeros(4, 0)}, "at least one channel"),
        ({"Ks": torch.zeros(2, 3, 3)}, r"Ks is \(2, 3, 3\).*viewmats \(1, 4, 4\)"),
        ({"viewmats": torch.zeros(4, 4)}, r"viewmats is \(4, 4\)"),
        ({"backgrounds": torch.zeros(4)}, r"backgrounds is \(4,\), expected \(3,\)"),
        ({"means": torch.zeros(4, 3).double()}, "quats is torch.float32.*but means is"),
        ({"viewmats": torch.full((1, 4, 4), math.nan)}, "must be finite"),
        ({"width": 0}, "must have pixels"),
        ({"near_plane": 0.0}, "0 < near_plane < far_plane"),
    ],
)
def test_wrong_input_is_named(change, message):
    scene = {name: t.float() for name, t in random_scene(4).items()}
    with pytest.raises(ValueError, match=message):
        render(scene | change)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat's rasteriser needs CUDA")
def test_gsplat_renders_the_same_picture_and_gradients():
    scene = {name: t.float().cuda() for name, t in random_scene(60, views=2, seed=13).items()}
    scene["backgrounds"] = torch.tensor([0.1, 0.5, 0.9], device="cuda")
    for name in [*GAUSSIAN_FIELDS, "viewmats"]:
        scene[name].requires_grad_()

    def run(engine: str):
        rendered = render(scene, engine=engine)
        loss = rendered.image.square().sum() + rendered.depth.mean() + rendered.alpha.mean()
        names = [*GAUSSIAN_FIELDS, "viewmats"]
        return rendered, torch.autograd.grad(loss, [scene[name] for name in names])

    ours, our_gradients = run("torch")
    theirs, their_gradients = run("gsplat")
    assert_same(ours, theirs, atol=1e-4, rtol=1e-4)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3 * b.abs().max().item(), rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat's rasteriser needs CUDA")
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gsplat_evaluates_the_same_harmonics(degree: int):
    scene = random_scene(60, views=2, seed=13)
    generator = torch.Generator().manual_seed(0)
    scene["colors"] = 0.6 * torch.randn(60, 16, 3, generator=generator)
    scene = {name: t.float().cuda() for name, t in scene.items()}
    names = [*GAUSSIAN_FIELDS, "viewmats"]
    for name in names:
        scene[name].requires_grad_()
    found = []
    for engine in ("torch", "gsplat"):
        rendered = render(scene, engine=engine, sh_degree=degree)
        found.append(
            torch.autograd.grad(rendered.image.square().sum(), [scene[name] for name in names])
        )
    for name, a, b in zip(names, *found, strict=True):
        if name == "viewmats":  # gsplat also has a derivative for the row 0 0 0 1
            a, b = a[:, :3], b[:, :3]
        torch.testing.assert_close(a, b, atol=1e-3 * b.abs().max().item(), rtol=1e-3)
