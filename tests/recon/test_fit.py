"""A fit: relocation by its formula, corrections, resuming, and a scene that comes out."""

import math

import pytest
import torch

from recon.cameras import invert_rigid
from recon.fit import Fit, FitConfig, FitViews
from recon.fit.config import FitRates
from recon.fit.corrections import PoseCorrection, rigid
from recon.fit.relocation import split_evenly
from recon.fit.starts import Units, from_chance, start
from recon.gaussians import Gaussians
from recon.rasterize import rasterize


def small_views(count: int = 6, size: int = 32) -> tuple[FitViews, torch.Tensor, torch.Tensor]:
    """Pictures of a few big Gaussians from a camera that moves sideways; points and colours."""
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(40, 3, generator=rng) * torch.tensor([4.0, 4.0, 2.0]) + torch.tensor(
        [-2.0, -2.0, 3.0]
    )
    colors = torch.rand(40, 3, generator=rng)
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = -torch.linspace(-0.5, 0.5, count)
    K = torch.tensor([[size, 0.0, size / 2], [0.0, size, size / 2], [0.0, 0.0, 1.0]])
    Ks = K.repeat(count, 1, 1)
    images = rasterize(
        points,
        torch.tensor([1.0, 0, 0, 0]).expand(40, 4),
        torch.full((40, 3), 0.3),
        torch.full((40,), 0.9),
        colors,
        viewmats,
        Ks,
        size,
        size,
    ).image
    images = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return FitViews(images, viewmats, Ks), points, (colors * 255).to(torch.uint8)


def a_fit(size: int = 32, **settings) -> Fit:
    views, points, rgb = small_views(size=size)
    rng = torch.Generator().manual_seed(0)
    config = FitConfig(steps=60, max_gaussians=200, relocate_every=10, engine="torch", **settings)
    return Fit(views, start(views, points, rgb, 200, rng), config)


def psnr(fit: Fit) -> float:
    views = fit.views
    render = fit.render(views.viewmats, views.Ks, views.width, views.height).clamp(0, 1)
    return -10 * math.log10(float((render - views.images / 255).square().mean()))


def test_one_copy_changes_nothing_and_two_are_the_papers_formula():
    opacities, scales = torch.tensor([0.3, 0.9]), torch.rand(2, 3) + 0.1
    same = split_evenly(opacities, scales, torch.tensor([1, 1]))
    torch.testing.assert_close(same[0], opacities)
    torch.testing.assert_close(same[1], scales)
    o, s = split_evenly(opacities, scales, torch.tensor([2, 2]))
    new = 1 - (1 - opacities.double()) ** 0.5
    torch.testing.assert_close(o, new.float())
    # by hand: i = 1 gives o, i = 2 gives o - o^2 / sqrt(2)
    total = 2 * new - new**2 / 2**0.5
    torch.testing.assert_close(s, scales * (opacities / total)[:, None].float())


@pytest.mark.parametrize("copies", [2, 3, 8, 51])
def test_copies_cover_what_the_one_covered(copies: int):
    """Along a ray through the centre, the copies together hide as much light."""
    opacity = torch.tensor([0.8])
    new, _ = split_evenly(opacity, torch.ones(1, 3), torch.tensor([copies]))
    torch.testing.assert_close(1 - (1 - new.double()) ** copies, opacity.double())


def test_a_rigid_motion_is_a_rotation_with_finite_gradients_at_zero():
    vectors = torch.tensor([[0.0, 0, 0], [0, 0, math.pi / 2], [1e-6, 0, 0], [0.3, -0.2, 0.5]])
    vectors = vectors.double().requires_grad_()
    T = rigid(vectors, torch.ones(4, 3, dtype=torch.float64))
    R = T[:, :3, :3]
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).double().expand(4, 3, 3))
    torch.testing.assert_close(R[1, 0], torch.tensor([0.0, -1, 0]).double())
    assert torch.autograd.gradcheck(lambda v: rigid(v, v * 0), (vectors,))


def test_relocation_empties_the_dead_and_keeps_the_picture():
    fit = a_fit()
    with torch.no_grad():
        fit.scene.logits[:50] = -12.0
    views = fit.views
    before = fit.render(views.viewmats, views.Ks, 32, 32)
    rng = torch.Generator().manual_seed(0)
    fit.run()
    assert fit.scene.relocate(fit.optimizer, 0.005, rng) == 50
    assert (fit.scene.logits.sigmoid() >= 0.0049).all()
    after = fit.render(views.viewmats, views.Ks, 32, 32)
    assert float((after - before).abs().mean()) < 0.02
    moments = fit.optimizer.state[fit.scene.means]["exp_avg"]
    assert (moments[:50] == 0).all()


def test_relocation_moves_gaussians_that_are_not_finite():
    fit = a_fit()
    with torch.no_grad():
        fit.scene.means[3] = torch.nan
        fit.scene.harmonics[4] = torch.inf
    assert fit.scene.relocate(fit.optimizer, 0.005, torch.Generator().manual_seed(0)) == 2
    assert all(p.isfinite().all() for p in fit.scene.parameters())


def test_a_fit_finds_the_scene():
    fit = a_fit(sh_degree=1, noise=10.0)
    before = psnr(fit)
    fit.run(60)
    assert fit.step == 60
    assert psnr(fit) > before + 6
    assert fit.scene.gaussians().num == 200


@pytest.mark.parametrize(
    "settings", [{}, {"refine_poses": True, "exposures": True, "coarse": 0.6, "noise": 5.0}]
)
def test_a_resumed_fit_equals_the_uninterrupted_one(settings: dict):
    whole, first, second = (a_fit(size=96, **settings) for _ in range(3))
    whole.run(30)
    first.run(13)
    second.restore(first.state())
    second.run(17)
    for a, b in zip(whole.state().items(), second.state().items(), strict=True):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=0, msg=a[0])


def test_the_state_of_another_fit_is_refused():
    with pytest.raises(ValueError, match="state of another fit"):
        a_fit().restore(a_fit(sh_degree=2).state())
    with pytest.raises(ValueError, match="state of another fit"):
        a_fit().restore({})


def test_poses_that_are_off_are_refined():
    """The Gaussians are the true ones and stay: only the cameras move, to where they were."""
    views, points, rgb = small_views()
    rng = torch.Generator().manual_seed(1)
    wrong = views.viewmats.clone()
    wrong[:, :3, 3] += 0.05 * torch.randn(6, 3, generator=rng)
    truth = Gaussians(
        points,
        torch.tensor([1.0, 0, 0, 0]).expand(40, 4),
        torch.full((40, 3), 0.3),
        torch.full((40,), 0.9),
        rgb.float() / 255,
    )
    still = FitRates(
        means=0, scales=0, quats=0, opacities=0, colors=0, harmonics=0, poses=5e-3, exposures=0
    )
    config = FitConfig(steps=150, refine_poses=True, rates=still, sh_degree=0)
    fit = Fit(FitViews(views.images, wrong, views.Ks), truth, config)
    before = psnr(fit)
    fit.run(150)
    moved = fit.render(fit.viewmats(), views.Ks, 32, 32).clamp(0, 1)
    after = -10 * math.log10(float((moved - views.images / 255).square().mean()))
    assert before < 35
    assert after > 45
    off = [(v - views.viewmats)[:, :3, 3].norm(dim=1).mean() for v in (wrong, fit.viewmats())]
    assert off[1] < 0.8 * off[0]


def test_masked_pixels_are_not_fitted():
    views, points, rgb = small_views()
    masks = torch.ones(views.images.shape[:3], dtype=torch.bool)
    masks[:, :, :16] = False
    spoiled = views.images.clone()
    spoiled[:, :, :16] = 255
    results = []
    for images in (views.images, spoiled):
        fit = Fit(
            FitViews(images, views.viewmats, views.Ks, masks),
            start(views, points, rgb, 100, torch.Generator().manual_seed(0)),
            FitConfig(steps=5, max_gaussians=100),
        )
        fit.run(5)
        results.append(fit.scene.means.detach())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_units_go_there_and_back_and_keep_the_picture():
    views, points, rgb = small_views()
    rng = torch.Generator().manual_seed(0)
    scene = start(views, points, rgb, 100, rng)
    units = Units.of(views, points)
    inner = units.views(views)
    assert abs(float(torch.tensor(units.scale)) - 1 / 4) < 0.1  # the median depth is about 4
    there = units.gaussians(scene)
    back = units.back(there)
    torch.testing.assert_close(back.means, scene.means)
    torch.testing.assert_close(back.scales, scene.scales)

    def drawn(views: FitViews, g: Gaussians):
        return rasterize(
            g.means, g.quats, g.scales, g.opacities, g.colors, views.viewmats, views.Ks, 32, 32
        ).image

    torch.testing.assert_close(drawn(inner, there), drawn(views, scene), rtol=0, atol=1e-4)


def test_gaussians_from_chance_are_seen_by_the_cameras():
    views, _, _ = small_views()
    scene = from_chance(views, 500, 2.0, 6.0, torch.Generator().manual_seed(0))
    depth = scene.means @ views.viewmats[0, 2, :3] + views.viewmats[0, 2, 3]
    assert depth.min() > 1.9
    assert depth.max() < 6.1
    assert (views.centres() == invert_rigid(views.viewmats)[:, :3, 3]).all()


def test_held_out_views_are_every_eighth():
    views, _, _ = small_views(20)
    train, held_out = views.split(8)
    assert (len(train), len(held_out)) == (17, 3)
    torch.testing.assert_close(held_out.viewmats, views.viewmats[[0, 8, 16]])


def test_half_the_resolution_keeps_the_rays():
    views, _, _ = small_views(size=33)
    half = views.halved()
    assert (half.height, half.width) == (16, 16)
    torch.testing.assert_close(half.Ks[0, :2] * 2, views.Ks[0, :2])


def test_corrections_start_at_nothing():
    viewmats = small_views()[0].viewmats
    same = PoseCorrection(6)(torch.arange(6), viewmats)
    torch.testing.assert_close(same, viewmats, rtol=0, atol=0)


@pytest.mark.parametrize(
    "broken",
    [
        {"images": torch.zeros(2, 4, 4, 3)},
        {"images": torch.zeros(0, 4, 4, 3, dtype=torch.uint8)},
        {"viewmats": torch.zeros(3, 4, 4)},
        {"Ks": torch.zeros(2, 4, 4)},
        {"masks": torch.zeros(2, 5, 4, dtype=torch.bool)},
    ],
)
def test_views_that_do_not_fit_are_refused(broken: dict):
    good = {
        "images": torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
        "viewmats": torch.zeros(2, 4, 4),
        "Ks": torch.zeros(2, 3, 3),
    }
    with pytest.raises(ValueError, match=r"pictures|images|masks|picture"):
        FitViews(**{**good, **broken})


@pytest.mark.parametrize(
    "setting", [{"sh_degree": 4}, {"steps": 0}, {"ssim": 1.5}, {"max_gaussians": 0}]
)
def test_settings_that_make_no_sense_are_refused(setting: dict):
    with pytest.raises(ValueError, match=next(iter(setting))):
        FitConfig(**setting)
