from dataclasses import replace

import pytest
import torch

from recon.cameras import compose
from recon.gaussians import Gaussians
from recon.rotations import matrices_from_quats


def random_gaussians(*leading: int, dtype=torch.float64) -> Gaussians:
    generator = torch.Generator().manual_seed(sum(leading))

    def draw(*last):
        return torch.rand(*leading, *last, generator=generator, dtype=dtype)

    return Gaussians(draw(3), draw(4) + 0.1, draw(3), draw(), draw(3))


def covariances(gaussians: Gaussians) -> torch.Tensor:
    root = matrices_from_quats(gaussians.quats) * gaussians.scales[..., None, :]
    return compose(root, root.transpose(-1, -2))


def test_transform_moves_means_and_turns_covariances():
    gaussians = random_gaussians(2, 5)
    T = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    T[:, :3, :3] = matrices_from_quats(torch.randn(2, 4, dtype=torch.float64))
    T[:, :3, 3] = torch.randn(2, 3, dtype=torch.float64)
    moved = gaussians.transform(T)
    R = T[:, None, :3, :3]
    torch.testing.assert_close(
        moved.means, (R @ gaussians.means[..., None])[..., 0] + T[:, None, :3, 3]
    )
    torch.testing.assert_close(covariances(moved), R @ covariances(gaussians) @ R.transpose(-1, -2))
    assert torch.equal(moved.opacities, gaussians.opacities)


def test_indexing_picks_scenes_and_gaussians():
    gaussians = random_gaussians(3, 6)
    assert gaussians.num == 6
    scene = gaussians[1]
    assert torch.equal(scene.means, gaussians.means[1])
    mask = scene.opacities > scene.opacities.median()
    kept = scene[mask]
    assert kept.num == int(mask.sum())
    assert torch.equal(kept.quats, scene.quats[mask])


def test_cat_joins_along_the_gaussians():
    a, b = random_gaussians(2, 3), random_gaussians(2, 4)
    joined = Gaussians.cat([a, b])
    assert joined.num == 7
    assert torch.equal(joined.opacities[:, 3:], b.opacities)
    assert torch.equal(joined.means[:, :3], a.means)


def test_to_and_detach_reach_every_field():
    gaussians = random_gaussians(4)
    gaussians.means.requires_grad_()
    assert gaussians.to(torch.float32).colors.dtype == torch.float32
    assert not gaussians.detach().means.requires_grad


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colors_may_be_spherical_harmonics(degree):
    plain = random_gaussians(2, 5)
    assert plain.sh_degree is None
    coefficients = torch.rand(2, 5, (degree + 1) ** 2, 3, dtype=torch.float64)
    scenes = replace(plain, colors=coefficients)
    assert scenes.sh_degree == scenes[0].sh_degree == scenes[1][:3].sh_degree == degree
    joined = Gaussians.cat([scenes, scenes])
    assert joined.colors.shape == (2, 10, (degree + 1) ** 2, 3)
    assert torch.equal(joined.means[:, 5:], plain.means)
    turned = scenes.transform(torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    torch.testing.assert_close(turned.colors, coefficients)


def test_colors_of_several_kinds_are_not_joined():
    plain = random_gaussians(5)
    scenes = [replace(plain, colors=torch.rand(5, n, 3)) for n in (4, 16)]
    with pytest.raises(ValueError, match=r"cannot be joined: 1, 3, None"):
        Gaussians.cat([plain, *scenes])


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 0, 3), (4, 25, 3)])
def test_numbers_of_coefficients_that_no_degree_has_are_named(shape):
    with pytest.raises(ValueError, match=rf"hold {shape[1]} coefficients.*1, 4, 9 and 16"):
        replace(random_gaussians(4), colors=torch.zeros(shape))


def test_coefficients_of_four_channels_are_refused():
    with pytest.raises(ValueError, match=r"colors \(4, 9, 4\) does not fit opacities \(4,\)"):
        replace(random_gaussians(4), colors=torch.zeros(4, 9, 4))


def test_fields_that_do_not_fit_are_named():
    g = random_gaussians(4)
    with pytest.raises(ValueError, match=r"scales \(3, 3\) does not fit opacities \(4,\)"):
        Gaussians(g.means, g.quats, g.scales[:3], g.opacities, g.colors)
