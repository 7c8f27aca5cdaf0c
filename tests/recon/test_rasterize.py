"""The torch engine against closed forms, a plain loop over pixels, gsplat's own projection, and
finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scenes import (
    DOUBLE,
    GAUSSIAN_FIELDS,
    HEIGHT,
    WIDTH,
    Scene,
    assert_same,
    one_gaussian,
    project,
    random_scene,
    render,
    select,
)
from torch import Tensor

from recon.rasterize import Rendered, compositing
from recon.rotations import matrices_from_quats


def loop_over_pixels(scene: Scene, background: list[float] | None = None) -> Rendered:
    """The definition, one pixel and one Gaussian at a time, with numbers instead of tensors."""
    images, depths, alphas = [], [], []
    for viewmat, K in zip(scene["viewmats"], scene["Ks"], strict=True):
        splats = []
        for i in range(len(scene["means"])):
            R, t = viewmat[:3, :3], viewmat[:3, 3]
            x, y, z = (R @ scene["means"][i] + t).tolist()
            if z < 0.01:
                continue
            fx, fy, cx, cy = K[0, 0].item(), K[1, 1].item(), K[0, 2].item(), K[1, 2].item()
            limit_x, limit_y = 0.15 * WIDTH / fx, 0.15 * HEIGHT / fy
            tx = min((WIDTH - cx) / fx + limit_x, max(-cx / fx - limit_x, x / z)) * z
            ty = min((HEIGHT - cy) / fy + limit_y, max(-cy / fy - limit_y, y / z)) * z
            J = torch.tensor(
                [[fx / z, 0, -fx * tx / z**2], [0, fy / z, -fy * ty / z**2]], dtype=DOUBLE
            )
            root = matrices_from_quats(scene["quats"][i]) @ scene["scales"][i].diag()
            covariance = J @ R @ root @ root.T @ R.T @ J.T + 0.3 * torch.eye(2, dtype=DOUBLE)
            centre = (fx * x / z + cx, fy * y / z + cy)
            precision = covariance.inverse().tolist()
            splats.append(
                (z, centre, precision, scene["opacities"][i].item(), scene["colors"][i].tolist())
            )
        splats.sort(key=lambda splat: splat[0])
        channels = scene["colors"].shape[1]
        for row in range(HEIGHT):
            for column in range(WIDTH):
                light, total, distance = 1.0, [0.0] * channels, 0.0
                for z, (u, v), ((a, b), (_, c)), opacity, color in splats:
                    dx, dy = u - column - 0.5, v - row - 0.5
                    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
                    alpha = min(0.999, opacity * math.exp(-sigma))
                    if alpha < 1 / 255:
                        continue
                    if light * (1 - alpha) <= 1e-4:
                        break
                    total = [s + light * alpha * k for s, k in zip(total, color, strict=True)]
                    distance += light * alpha * z
                    light *= 1 - alpha
                hidden = 1 - light
                beyond = background or [0.0] * channels
                images.append([s + light * k for s, k in zip(total, beyond, strict=True)])
                depths.append(distance / max(hidden, 1e-10))
                alphas.append(hidden)
    shape = (len(scene["viewmats"]), HEIGHT, WIDTH)
    image, depth, alpha = (torch.tensor(x, dtype=DOUBLE) for x in (images, depths, alphas))
    return Rendered(image.view(*shape, -1), depth.view(shape), alpha.view(shape))


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition_pixel_by_pixel(seed):
    scene = random_scene(40, views=2, seed=seed)
    background = [0.3, 0.6, 0.1]
    rendered = render(scene, backgrounds=torch.tensor(background, dtype=DOUBLE))
    assert_same(rendered, loop_over_pixels(scene, background))
    assert rendered.alpha.max() > 0.9


def test_opaque_stacks_stop_where_the_definition_stops():
    scene = random_scene(40, seed=5)
    scene["opacities"] = torch.ones(40, dtype=DOUBLE)
    scene["scales"] = scene["scales"] * 3
    rendered = render(scene)
    assert rendered.alpha.max() > 0.999  # some pixels do reach the limit
    assert_same(rendered, loop_over_pixels(scene))


def test_long_lists_equal_the_definition():
    scene = random_scene(400, seed=14)
    scene["means"][:, :2] *= 0.3
    scene["opacities"] = 0.1 * scene["opacities"]
    rendered = render(scene)
    assert rendered.alpha.max() > 0.999
    assert_same(rendered, loop_over_pixels(scene))


def test_float32_is_close_to_float64():
    scene = random_scene(60, seed=1)
    single = render({name: t.float() for name, t in scene.items()})
    assert single.image.dtype == torch.float32
    assert_same(Rendered(*(t.double() for t in single)), render(scene), atol=2e-5, rtol=1e-4)


def test_projection_equals_gsplats_own_reference():
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    scene = random_scene(80, views=1, seed=2)
    covariances, _ = reference._quat_scale_to_covar_preci(scene["quats"], scene["scales"])
    radii, means2d, depths, conics, _ = reference._fully_fused_projection(
        scene["means"], covariances, scene["viewmats"], scene["Ks"], WIDTH, HEIGHT
    )
    ours = project(scene)
    assert 20 < len(ours.ids) < 80
    torch.testing.assert_close(ours.means2d, means2d[0, ours.ids])
    torch.testing.assert_close(ours.depths, depths[0, ours.ids])
    torch.testing.assert_close(ours.conics, conics[0, ours.ids])
    # gsplat's radii are rounded up to whole pixels: it keeps all that we keep.
    assert (radii[0, ours.ids] > 0).all()
    assert (ours.depths.diff() >= 0).all()


def test_a_gaussian_on_the_axis_renders_to_the_closed_form():
    scene = one_gaussian()
    rendered = render(scene)
    variance = (20 * 0.3 / 4) ** 2 + 0.3  # pixels^2: focal * scale / depth, plus the blur
    columns = torch.arange(WIDTH, dtype=DOUBLE) + 0.5 - 9.5
    rows = torch.arange(HEIGHT, dtype=DOUBLE)[:, None] + 0.5 - 6.5
    alpha = 0.8 * torch.exp(-(columns**2 + rows**2) / (2 * variance))
    alpha = torch.where(alpha >= 1 / 255, alpha, 0.0)
    torch.testing.assert_close(rendered.alpha[0], alpha)
    torch.testing.assert_close(rendered.image[0], alpha[..., None] * scene["colors"][0])
    torch.testing.assert_close(rendered.depth[0], torch.where(alpha > 0, 4.0, 0.0).double())


def test_two_gaussians_blend_front_to_back_whatever_their_order():
    near = one_gaussian(means=[[0.0, 0, 2.0]], opacities=[0.6], colors=[[1.0, 0, 0]])
    far = one_gaussian(means=[[0.0, 0, 5.0]], opacities=[0.9], colors=[[0.0, 1, 0]])
    for first, second in ((near, far), (far, near)):
        both = {
            k: torch.cat([first[k], second[k]]) if k not in ("viewmats", "Ks") else first[k]
            for k in first
        }
        rendered = render(both)
        centre = rendered.image[0, 6, 9]  # pixel (9, 6) has its centre at (9.5, 6.5)
        torch.testing.assert_close(centre, torch.tensor([0.6, 0.4 * 0.9, 0], dtype=DOUBLE))
        expected_depth = (0.6 * 2 + 0.36 * 5) / 0.96
        assert rendered.depth[0, 6, 9].item() == pytest.approx(expected_depth)


def test_opacity_one_is_clamped_and_lets_a_little_light_through():
    rendered = render(one_gaussian(opacities=[1.0]), backgrounds=torch.ones(3, dtype=DOUBLE))
    assert rendered.alpha.max().item() == pytest.approx(0.999)


def gradcheck(scene: Scene, names: list[str]) -> bool:
    """Compare analytic and numeric derivatives of a small crop (every pixel costs a pass)."""
    inputs = [scene[name].clone().requires_grad_() for name in names]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(render(scene | dict(zip(names, values, strict=True)), width=11, height=8))

    assert function(*inputs)[2].mean() > 0.05
    return torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("name", [*GAUSSIAN_FIELDS, "viewmats", "Ks"])
def test_gradients_agree_with_finite_differences(name):
    # Footprints end at 1/255 with a small jump, which finite differences would see only where a
    # pixel lies within a step of the edge: with these seeds none does.
    assert gradcheck(random_scene(7, views=2, channels=2, seed=3), [name])


def test_gradients_of_the_background_and_of_opaque_stacks(monkeypatch):
    monkeypatch.setattr(compositing, "SEGMENT", 2)  # so that lists take several segments
    scene = random_scene(9, channels=2, seed=4)
    scene["opacities"] = torch.full((9,), 0.97, dtype=DOUBLE)
    scene["scales"] = scene["scales"] * 2
    scene["backgrounds"] = torch.tensor([0.2, 0.4], dtype=DOUBLE)
    assert gradcheck(scene, ["means", "opacities", "backgrounds"])


def test_gradients_flow_through_pixels_that_stop():
    scene = one_gaussian()
    stack = {k: v.repeat(6, *[1] * (v.ndim - 1)) for k, v in scene.items() if k in GAUSSIAN_FIELDS}
    stack |= {"viewmats": scene["viewmats"], "Ks": scene["Ks"]}
    stack["means"][:, 2] += torch.arange(6, dtype=DOUBLE) * 0.1
    stack["opacities"] = torch.full((6,), 0.95, dtype=DOUBLE)
    assert render(stack).alpha.max() > 0.999
    assert gradcheck(stack, ["opacities", "colors"])
    colors = stack["colors"].requires_grad_()
    (gradient,) = torch.autograd.grad(render(stack).image[0, 6, 9].sum(), colors)
    # At the centre, 0.05^3 of the light is left after three; a fourth would go below 1e-4.
    assert (gradient.sum(1) > 0).tolist() == [True] * 3 + [False] * 3


def test_gaussians_that_cannot_be_seen_change_nothing_and_get_no_gradient():
    scene = random_scene(12, seed=6)
    scene["viewmats"] = torch.eye(4, dtype=DOUBLE)[None]
    scene["means"][:, 2] = scene["means"][:, 2].abs() + 1.5
    expected = render(scene)
    broken = one_gaussian()
    bad = [
        {"means": [[0.0, 0, -4.0]]},  # behind
        {"means": [[0.0, 0, 0.0]]},  # at the camera
        {"means": [[0.0, math.nan, 4.0]]},
        {"means": [[0.0, 0, math.inf]]},
        {"means": [[900.0, 0, 4.0]]},  # far off the picture
        {"quats": [[0.0, 0, 0, 0]]},
        {"quats": [[math.nan, 0, 0, 0]]},
        {"scales": [[math.inf, 0.1, 0.1]]},
        {"scales": [[math.nan, 0.1, 0.1]]},
        {"scales": [[1e160, 1e160, 1e160]]},  # whose covariance overflows
        {"quats": [[1e-200, 0, 0, 0]]},  # whose length underflows
        {"opacities": [0.0]},
        {"opacities": [1 / 256]},
        {"opacities": [math.nan]},
        {"colors": [[math.nan, 0, 0]]},
    ]
    extra = [one_gaussian(**changes) for changes in bad]
    mixed = {
        k: torch.cat([scene[k], *(e[k] for e in extra)]) if k in GAUSSIAN_FIELDS else scene[k]
        for k in broken
    }
    for name in GAUSSIAN_FIELDS:
        mixed[name].requires_grad_()
    rendered = render(mixed)
    assert_same(Rendered(*(t.detach() for t in rendered)), expected)
    (rendered.image.sum() + rendered.depth.sum() + rendered.alpha.sum()).backward()
    for name in GAUSSIAN_FIELDS:
        gradient = mixed[name].grad
        assert gradient is not None
        assert gradient[:12].isfinite().all()
        assert gradient[:12].abs().sum() > 0
        assert (gradient[12:] == 0).all()


def test_a_scale_of_zero_is_rendered_as_the_blur():
    rendered = render(one_gaussian(scales=[[0.0, 0.0, 0.0]]))
    assert rendered.alpha[0, 6, 9].item() == pytest.approx(0.8)
    assert rendered.alpha[0, 6, 10].item() == pytest.approx(0.8 * math.exp(-0.5 / 0.3))


@pytest.mark.parametrize("backgrounds", [None, torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE)])
def test_no_gaussians_give_the_background(backgrounds):
    scene = select(random_scene(3, views=2), slice(0, 0))
    rendered = render(scene, backgrounds=backgrounds)
    expected = torch.zeros(3, dtype=DOUBLE) if backgrounds is None else backgrounds
    assert torch.equal(rendered.image, expected.expand(2, HEIGHT, WIDTH, 3))
    assert not rendered.alpha.any()
    assert not rendered.depth.any()


def test_a_view_that_sees_nothing_is_empty_and_has_zero_gradients():
    scene = random_scene(5, views=2, seed=7)
    scene["viewmats"][1, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1], dtype=DOUBLE))
    scene["means"][:, 2] = 3
    scene["means"].requires_grad_()
    rendered = render(scene)
    assert not rendered.alpha[1].any()
    rendered.image[1].sum().backward()
    assert scene["means"].grad is not None
    assert not scene["means"].grad.any()


def test_near_and_far_cull_by_camera_z():
    scene = one_gaussian()  # at z = 4
    assert render(scene, near_plane=3.9, far_plane=4.1).alpha.any()
    assert not render(scene, near_plane=4.1).alpha.any()
    assert not render(scene, far_plane=3.9).alpha.any()


def test_background_per_view_shows_through():
    scene = random_scene(8, views=2, seed=8)
    backgrounds = torch.rand(2, 3, dtype=DOUBLE)
    plain, over = render(scene), render(scene, backgrounds=backgrounds)
    expected = plain.image + (1 - plain.alpha[..., None]) * backgrounds[:, None, None]
    torch.testing.assert_close(over.image, expected)
    assert torch.equal(plain.depth, over.depth)


def test_views_together_equal_views_alone():
    scene = random_scene(30, views=3, seed=9)
    together = render(scene)
    for view in range(3):
        single = scene | {k: scene[k][view : view + 1] for k in ("viewmats", "Ks")}
        alone = Rendered(*(t[view : view + 1] for t in together))
        assert_same(alone, render(single), atol=0, rtol=0)


@pytest.mark.parametrize("channels", [1, 4, 40])
def test_any_number_of_channels(channels):
    scene = random_scene(20, channels=channels, seed=10)
    image = render(scene).image
    assert image.shape == (1, HEIGHT, WIDTH, channels)
    alone = render(scene | {"colors": scene["colors"][:, -1:]}).image
    torch.testing.assert_close(image[..., -1:], alone)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_order_of_the_input_does_not_matter(seed):
    scene = random_scene(25, seed=seed)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(seed))
    assert_same(render(scene), render(select(scene, order)), atol=1e-12, rtol=0)


def test_equal_depths_blend_in_input_order():
    front, back = one_gaussian(colors=[[1.0, 0, 0]]), one_gaussian(colors=[[0.0, 1, 0]])
    pair = {k: torch.cat([front[k], back[k]]) if k in GAUSSIAN_FIELDS else front[k] for k in front}
    expected = torch.tensor([0.8, 0.2 * 0.8, 0], dtype=DOUBLE)
    torch.testing.assert_close(render(pair).image[0, 6, 9], expected)


@pytest.mark.parametrize("tile", [1, 3, 8, 32])
@pytest.mark.parametrize("block_values", [1, 1000, 10**7])
@pytest.mark.parametrize("segment", [1, 5, 1000])
def test_sizes_of_the_pieces_change_nothing(tile, block_values, segment, monkeypatch):
    scene = random_scene(60, seed=11)
    scene["opacities"] = scene["opacities"].clamp(min=0.9)  # so that some pixels end early
    scene["scales"] = 1.5 * scene["scales"]
    seen = project(scene)
    fields = [seen.means2d, seen.factors, scene["opacities"][seen.ids], scene["colors"][seen.ids]]
    fields = [t.clone().requires_grad_() for t in fields]

    def run(tile: int, block_values: int, segment: int):
        monkeypatch.setattr(compositing, "SEGMENT", segment)
        lists = compositing.list_tiles(seen.boxes, WIDTH, HEIGHT, tile)
        sums, hidden = compositing.composite(*fields, lists, WIDTH, HEIGHT, tile, block_values)
        loss = (sums * torch.linspace(0, 1, sums.numel()).view_as(sums)).sum() + (
            1 - hidden
        ).square().sum()
        return sums, hidden, *torch.autograd.grad(loss, fields)

    expected = run(4, 2**18, 128)
    assert expected[1].max() > 0.999
    for a, b in zip(run(tile, block_values, segment), expected, strict=True):
        torch.testing.assert_close(a, b)
