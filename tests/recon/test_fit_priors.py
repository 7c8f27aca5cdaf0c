"""Priors on depth and normals: what they price, and that a fit follows them."""

import torch

from recon.fit import Fit, FitConfig, FitViews
from recon.fit.priors import Priors, surface_normals
from recon.fit.starts import from_chance
from recon.rasterize import Rendered


def rendered_of(depth: torch.Tensor) -> Rendered:
    return Rendered(torch.zeros(*depth.shape, 3), depth, torch.ones_like(depth))


def tilted_plane(height: int = 20, width: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth [1, H, W] of the plane z = 4 + x / 2, and Ks."""
    K = torch.tensor([[[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]]])
    x = (torch.arange(width) + 0.5 - width / 2) / 30
    depth = 4 / (1 - x / 2)
    return depth.expand(1, height, width).contiguous(), K


def test_normals_of_a_plane_are_its_own():
    depth, K = tilted_plane()
    found = surface_normals(depth, K)
    expected = torch.tensor([0.5, 0.0, -1.0]) / 1.25**0.5
    torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=2e-4)


def test_a_depth_of_another_scale_and_shift_costs_nothing():
    depth, K = tilted_plane()
    priors = Priors(depths=0.3 * depth + 2)
    assert float(priors.price(torch.tensor([0]), rendered_of(depth), K, 1.0, 0.0)) < 1e-5
    bent = Priors(depths=depth + torch.rand_like(depth))
    assert float(bent.price(torch.tensor([0]), rendered_of(depth), K, 1.0, 0.0)) > 0.02
    flat = rendered_of(torch.full_like(depth, 4.0))
    assert float(priors.price(torch.tensor([0]), flat, K, 1.0, 0.0)) > 0.99


def test_normals_cost_one_minus_their_cosine_and_unknown_ones_nothing():
    depth, K = tilted_plane()
    toward = torch.zeros(1, 20, 24, 3)
    toward[..., 2] = -1
    toward[:, :10] = 0
    price = Priors(normals=toward).price(torch.tensor([0]), rendered_of(depth), K, 0.0, 1.0)
    assert abs(float(price) - (1 - 1 / 1.25**0.5)) < 1e-4


def test_what_is_not_known_costs_nothing():
    depth, K = tilted_plane()
    unknown = Priors(torch.zeros(1, 20, 24), torch.zeros(1, 20, 24, 3))
    assert float(unknown.price(torch.tensor([0]), rendered_of(depth), K, 1.0, 1.0)) == 0


def test_halves_know_what_all_four_pixels_know():
    depths = torch.full((1, 4, 4), 2.0)
    depths[0, 0, 0] = 0
    half = Priors(depths).halved()
    assert half.depths is not None
    assert half.depths.tolist() == [[[0, 2], [2, 2]]]


def test_a_fit_of_one_picture_takes_the_shape_that_the_prior_says():
    """One view says nothing of depth: only the prior can tell a slope from a wall."""
    depth, K = tilted_plane()
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (1, 20, 24, 3), generator=rng).to(torch.uint8)
    views = FitViews(images, torch.eye(4)[None], K)
    likeness = []
    for price in (0.0, 1.0):
        start = from_chance(views, 300, 3.9, 4.1, torch.Generator().manual_seed(0))
        config = FitConfig(steps=150, max_gaussians=300, depth_price=price, sh_degree=0)
        fit = Fit(views, start, config, Priors(depths=depth))
        fit.run(150)
        with torch.no_grad():
            shape = fit.scene.render(views.viewmats, K, 24, 20, 0, "auto").depth
        likeness.append(
            float(torch.corrcoef(torch.stack([shape.flatten(), depth.flatten()]))[0, 1])
        )
    assert likeness[0] < 0.5
    assert likeness[1] > 0.8
