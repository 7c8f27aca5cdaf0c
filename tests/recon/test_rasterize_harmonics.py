"""Colours as spherical harmonics: values, gradients, agreement of the engines, what is refused."""

import math

import pytest
import torch
from small_scenes import DOUBLE, assert_same
from small_scenes import random_scene as small_scene
from small_scenes import render as render_small
from splat_scenes import (
    GAUSSIAN_FIELDS,
    Scene,
    Shape,
    delicate_pixels,
    instruction_sets,
    leaves,
    random_scene,
    render,
)
from torch import Tensor

from recon.gaussians import Gaussians
from recon.rasterize import auto_engine, cpu_library, rasterize, rasterize_with_meta
from recon.rasterize.harmonics import bases, colors_from, num_bases, rotate
from recon.rotations import matrices_from_quats

DEGREES = [0, 1, 2, 3]
compiled = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")
both_engines = pytest.mark.parametrize("engine", ["torch", pytest.param("cpu", marks=compiled)])


def directions(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=DOUBLE), dim=1
    )


def with_coefficients(scene: Scene, count: int, seed: int = 0) -> Scene:
    """Many colours are cut off at zero, in some views alone."""
    generator = torch.Generator().manual_seed(seed)
    gaussians = len(scene["means"])
    coefficients = 0.6 * torch.randn(gaussians, count, 3, generator=generator)
    return scene | {"colors": coefficients.to(scene["means"].dtype)}


# ---- values ----------------------------------------------------------------------------------


def test_bases_are_orthonormal_on_the_sphere():
    """Gauss-Legendre in z by a ring: exact for products of two bases of degree 3."""
    nodes, weights = torch.tensor(GAUSS_LEGENDRE_8, dtype=DOUBLE).unbind(1)
    angles = 2 * math.pi * torch.arange(16, dtype=DOUBLE) / 16
    radius = (1 - nodes**2).sqrt()[:, None]
    z = nodes[:, None].expand(8, 16)
    points = torch.stack([radius * angles.cos(), radius * angles.sin(), z], -1)
    values = bases(points, 3)
    products = torch.einsum(
        "ij,ijk,ijl->kl", (weights[:, None] * math.pi / 8).expand(8, 16), values, values
    )
    torch.testing.assert_close(products, torch.eye(16, dtype=DOUBLE), atol=1e-9, rtol=0)


GAUSS_LEGENDRE_8 = [
    [sign * node, weight]
    for node, weight in (
        (0.1834346424956498, 0.3626837833783620),
        (0.5255324099163290, 0.3137066458778873),
        (0.7966664774136267, 0.2223810344533745),
        (0.9602898564975363, 0.1012285362903763),
    )
    for sign in (-1, 1)
]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [  # sqrt((2 l + 1) / 4 pi) times 1 on the axis, by hand
        ((0, 0, 1), {0: 1, 2: math.sqrt(3), 6: math.sqrt(5), 12: math.sqrt(7)}),
        ((0, 0, -1), {0: 1, 2: -math.sqrt(3), 6: math.sqrt(5), 12: -math.sqrt(7)}),
        (
            (1, 0, 0),
            {
                **{0: 1, 3: -math.sqrt(3), 6: -math.sqrt(5) / 2, 8: math.sqrt(15) / 2},
                **{13: math.sqrt(42) / 4, 15: -math.sqrt(70) / 4},
            },
        ),
        (
            (0, 1, 0),
            {
                **{0: 1, 1: -math.sqrt(3), 6: -math.sqrt(5) / 2, 8: -math.sqrt(15) / 2},
                **{9: math.sqrt(70) / 4, 11: math.sqrt(42) / 4},
            },
        ),
        (
            (math.sqrt(0.5), math.sqrt(0.5), 0),
            {
                **{0: 1, 1: -math.sqrt(1.5), 3: -math.sqrt(1.5), 4: math.sqrt(15) / 2},
                **{6: -math.sqrt(5) / 2, 9: -math.sqrt(35) / 4, 15: math.sqrt(35) / 4},
                **{11: math.sqrt(21) / 4, 13: math.sqrt(21) / 4},
            },
        ),
    ],
)
def test_bases_have_the_order_and_the_signs_of_3dgs(direction, expected):
    found = bases(torch.tensor(direction, dtype=DOUBLE), 3) * math.sqrt(4 * math.pi)
    wanted = torch.zeros(16, dtype=DOUBLE)
    for basis, value in expected.items():
        wanted[basis] = value
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize("degree", DEGREES)
def test_bases_are_those_of_gsplat(degree):
    theirs = pytest.importorskip("gsplat.cuda._torch_impl")
    points = directions(50)
    wanted = theirs._eval_sh_bases_fast(num_bases(degree), points)
    torch.testing.assert_close(bases(points, degree), wanted, atol=1e-8, rtol=1e-8)


def test_colors_are_seen_from_the_cameras_centre():
    """Red grows along +x of the world: it is seen from the left, not from the right."""
    coefficients = torch.zeros(2, 4, 3, dtype=DOUBLE)
    coefficients[:, 3, 0] = -1  # 0.4886 x
    means = torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]], dtype=DOUBLE)
    viewmat = torch.eye(4, dtype=DOUBLE)
    viewmat[:3, :3] = matrices_from_quats(torch.tensor([0.7, 0.1, 0.6, -0.2], dtype=DOUBLE))
    viewmat[:3, 3] = -(viewmat[:3, :3] @ torch.tensor([-1.0, 0, 0], dtype=DOUBLE))
    red = colors_from(coefficients, means, viewmat)[:, 0]
    reach = math.sqrt(3 / (4 * math.pi))
    torch.testing.assert_close(
        red, torch.tensor([0.5 + reach, 0.5 - reach], dtype=DOUBLE), atol=1e-7, rtol=0
    )


def test_negative_colors_are_black_and_bright_ones_stay():
    coefficients = torch.tensor([[[-5.0, 0, 9.0]]], dtype=DOUBLE)
    found = colors_from(coefficients, torch.ones(1, 3, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE))
    wanted = torch.tensor([[0, 0.5, 0.5 + 9 * math.sqrt(1 / (4 * math.pi))]], dtype=DOUBLE)
    torch.testing.assert_close(found, wanted)


@both_engines
@pytest.mark.parametrize("coefficients", [1, 4, 16])
def test_degree_0_is_plain_colors(engine, coefficients):
    scene = with_coefficients(random_scene(Shape(40, 2, 3, 30, 20)), coefficients)
    plain = (scene["colors"][:, 0] * 0.28209479177387814 + 0.5).clamp(min=0)
    found = render(scene, 30, 20, engine, sh_degree=0)
    wanted = render(scene | {"colors": plain}, 30, 20, engine)
    assert_same(found, wanted, atol=1e-6, rtol=1e-6)


# ---- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", DEGREES)
def test_gradients_of_the_reference_are_those_of_finite_differences(degree):
    scene = with_coefficients(small_scene(4, seed=3), num_bases(degree), seed=degree)
    scene["means"] = scene["means"] * 0.3 + torch.tensor([0, 0, 3.0])
    names = ["means", "colors", "viewmats"]
    inputs = [scene[name].requires_grad_() for name in names]

    def image(*tensors: Tensor) -> Tensor:
        return render_small(
            scene | dict(zip(names, tensors, strict=True)), width=5, height=4, sh_degree=degree
        ).image

    assert torch.autograd.gradcheck(image, inputs, fast_mode=True)


@compiled
@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("more", [0, 1, 7])
@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_the_compiled_engine_equals_float64(monkeypatch, instruction_set, degree, more):
    monkeypatch.setenv(cpu_library.INSTRUCTION_SET_VARIABLE, instruction_set)
    width, height = 45, 34
    scene = random_scene(Shape(97, 2, 3, width, height), ("plain", "needle", "behind"), degree)
    scene = with_coefficients(scene, num_bases(degree) + more)
    delicate = delicate_pixels(scene | {"colors": scene["colors"][:, 0]}, width, height)
    mine, exact = leaves(scene), leaves(scene, DOUBLE)
    ours = render(mine, width, height, sh_degree=degree)
    theirs = render(exact, width, height, "torch", sh_degree=degree)
    assert (ours.image.double() - theirs.image)[~delicate].abs().max() < 1e-5
    weights = torch.randn(theirs.image.shape, generator=torch.Generator().manual_seed(1))
    weights[delicate] = 0
    (ours.image * weights).sum().backward()
    (theirs.image * weights).sum().backward()
    for name in (*GAUSSIAN_FIELDS, "viewmats", "Ks"):
        reference = exact[name].grad
        assert (mine[name].grad.double() - reference).norm() <= 1e-4 * reference.norm(), name
    assert not mine["colors"].grad[:, num_bases(degree) :].any()


@compiled
def test_views_that_look_away_add_nothing():
    """The gradient of the first view is written, that of the others added."""
    scene = with_coefficients(random_scene(Shape(30, 2, 3, 20, 20), seed=2), 16)
    away = scene["viewmats"].clone()
    away[:, :3] *= torch.tensor([-1.0, 1, -1])[:, None]
    gradients = []
    for viewmats in (
        scene["viewmats"],
        torch.cat([away, scene["viewmats"]]),
        torch.cat([scene["viewmats"], away]),
    ):
        views = {"viewmats": viewmats, "Ks": scene["Ks"][:1].expand(len(viewmats), 3, 3)}
        inputs = leaves(scene | views)
        render(inputs, 20, 20, sh_degree=3).image.square().sum().backward()
        gradients.append([inputs[name].grad for name in GAUSSIAN_FIELDS])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@both_engines
def test_where_a_color_is_cut_off_its_coefficients_do_not_move(engine):
    scene = with_coefficients(random_scene(Shape(25, 1, 3, 20, 20)), 9)
    scene["colors"][:, 0] = -50
    scene["colors"].requires_grad_()
    picture = render(scene, 20, 20, engine, sh_degree=2)
    picture.image.sum().backward()
    assert not scene["colors"].grad.any()


# ---- scenes ----------------------------------------------------------------------------------


@both_engines
def test_a_batch_of_scenes_equals_scenes_alone(engine):
    scenes = [
        with_coefficients(random_scene(Shape(9, 2, 3, 12, 8), seed=seed), 9, seed)
        for seed in range(3)
    ]
    batch = {name: torch.stack([s[name] for s in scenes]) for name in scenes[0]}
    together = render(batch, 12, 8, engine, sh_degree=1)
    for index, scene in enumerate(scenes):
        for a, b in zip(together, render(scene, 12, 8, engine, sh_degree=1), strict=True):
            assert torch.equal(a[index], b)


@pytest.mark.parametrize("degree", DEGREES)
def test_turned_coefficients_show_along_turned_directions_what_was_there(degree):
    coefficients = torch.randn(7, num_bases(degree), 3, dtype=DOUBLE)
    rotation = matrices_from_quats(torch.tensor([0.3, -0.5, 0.7, 0.2], dtype=DOUBLE))
    seen = directions(20)
    turned = rotate(coefficients, rotation)
    torch.testing.assert_close(
        torch.einsum("dk,gkc->dgc", bases(seen @ rotation.T, degree), turned),
        torch.einsum("dk,gkc->dgc", bases(seen, degree), coefficients),
    )


def test_a_scene_may_move_together_with_its_cameras():
    scene = with_coefficients(small_scene(20, views=2, seed=4), 16)
    motion = torch.eye(4, dtype=DOUBLE)
    motion[:3, :3] = matrices_from_quats(torch.tensor([0.9, 0.4, -0.3, 0.2], dtype=DOUBLE))
    motion[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    moved = Gaussians(*(scene[name] for name in GAUSSIAN_FIELDS)).transform(motion)
    assert moved.sh_degree == 3
    fields = {name: getattr(moved, name) for name in GAUSSIAN_FIELDS}
    views = {"viewmats": scene["viewmats"] @ torch.linalg.inv(motion)}
    assert_same(render_small(scene, sh_degree=3), render_small(scene | fields | views, sh_degree=3))


@both_engines
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("coefficient", [0, 5, 8])
def test_a_coefficient_that_is_none_leaves_its_gaussian_out(engine, value, coefficient):
    scene = with_coefficients(random_scene(Shape(20, 2, 3, 20, 20), seed=4), 9)
    scene["colors"][7, coefficient] = value
    rest = [i for i in range(20) if i != 7]
    whole = leaves(scene)
    part = leaves({k: t[rest] if k in GAUSSIAN_FIELDS else t for k, t in scene.items()})
    for a, b in zip(*(render(s, 20, 20, engine, sh_degree=2) for s in (whole, part)), strict=True):
        assert torch.equal(a, b)
        (a.square().sum() + b.square().sum()).backward(retain_graph=True)
    for name in GAUSSIAN_FIELDS:
        assert not whole[name].grad[7].any()
        torch.testing.assert_close(whole[name].grad[rest], part[name].grad)


@both_engines
def test_coefficients_beyond_the_degree_are_not_read(engine):
    scene = with_coefficients(random_scene(Shape(20, 1, 3, 20, 20), seed=4), 16)
    wanted = render(scene, 20, 20, engine, sh_degree=1)
    scene["colors"][:, 4:] = math.nan
    assert_same(render(scene, 20, 20, engine, sh_degree=1), wanted, atol=0, rtol=0)


@both_engines
@pytest.mark.parametrize(("gaussians", "views"), [(0, 2), (3, 0)])
def test_nothing_to_render(engine, gaussians, views):
    scene = leaves(with_coefficients(random_scene(Shape(gaussians, views, 3, 7, 5)), 4))
    picture = render(scene, 7, 5, engine, sh_degree=1)
    assert picture.image.shape == (views, 5, 7, 3)
    if picture.image.requires_grad:
        picture.image.sum().backward()
    assert not any(
        scene[name].grad.any() for name in GAUSSIAN_FIELDS if scene[name].grad is not None
    )


@both_engines
def test_meta_is_that_of_plain_colors(engine):
    plain = random_scene(Shape(20, 2, 3, 20, 20), seed=4)
    scene = with_coefficients(plain, 16)
    options = {"width": 20, "height": 20, "engine": engine}
    rendered, meta = rasterize_with_meta(**scene, **options, sh_degree=3)
    _, wanted = rasterize_with_meta(**plain, **options)
    assert torch.equal(meta.radii, wanted.radii)
    assert_same(rendered, rasterize(**scene, **options, sh_degree=3), atol=0, rtol=0)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colors", "degree", "message"),
    [
        ((4, 9, 3), 3, r"colors is \(4, 9, 3\), expected \(4,\), 16 or more coefficients"),
        ((4, 3), 0, r"colors is \(4, 3\), expected \(4,\), 1 or more coefficients"),
        ((4, 16, 4), 3, r"colors is \(4, 16, 4\).*and 3 channels"),
        ((5, 4, 3), 1, r"colors is \(5, 4, 3\), expected \(4, 4, \*\) to fit means \(4, 3\)"),
        ((4, 25, 3), 4, "sh_degree must be a whole number from 0 to 3, or None.*not 4"),
        ((4, 16, 3), -1, "not -1"),
        ((4, 16, 3), 1.0, "not 1.0"),
        ((4, 16, 3), True, "not True"),
        ((4, 16, 3), None, r"colors is \(4, 16, 3\).*say sh_degree"),
    ],
)
@both_engines
def test_wrong_coefficients_are_named(engine, colors, degree, message):
    scene = random_scene(Shape(4, 1, 3, 6, 6)) | {"colors": torch.zeros(colors)}
    with pytest.raises(ValueError, match=message):
        render(scene, 6, 6, engine, sh_degree=degree)


@both_engines
def test_cameras_that_are_nowhere_are_refused(engine):
    scene = with_coefficients(random_scene(Shape(4, 2, 3, 6, 6)), 4)
    scene["viewmats"][1, :3, 0] = 0
    with pytest.raises(ValueError, match=r"rigid for spherical harmonics.*view 1 has the determ"):
        render(scene, 6, 6, engine, sh_degree=1)


@pytest.mark.skipif(
    not torch.cuda.is_available() or auto_engine("cuda").name != "gsplat",
    reason="gsplat's rasteriser needs CUDA",
)
@pytest.mark.parametrize("degree", DEGREES)
def test_gsplat_renders_the_same_picture_and_gradients(degree):
    scene = with_coefficients(small_scene(60, views=2, seed=13), 16)
    scene = {name: t.float().cuda() for name, t in scene.items()}
    names = [*GAUSSIAN_FIELDS, "viewmats"]
    for name in names:
        scene[name].requires_grad_()
    found = []
    for engine in ("torch", "gsplat"):
        rendered = render_small(scene, engine=engine, sh_degree=degree)
        found.append(
            torch.autograd.grad(rendered.image.square().sum(), [scene[name] for name in names])
        )
    for name, a, b in zip(names, *found, strict=True):
        if name == "viewmats":  # gsplat also has a derivative for the row 0 0 0 1
            a, b = a[:, :3], b[:, :3]
        torch.testing.assert_close(a, b, atol=1e-3 * b.abs().max().item(), rtol=1e-3)
