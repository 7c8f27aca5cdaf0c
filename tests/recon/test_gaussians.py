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


def test_fields_that_do_not_fit_are_named():
    g = random_gaussians(4)
    with pytest.raises(ValueError, match=r"scales \(3, 3\) does not fit opacities \(4,\)"):
        Gaussians(g.means, g.quats, g.scales[:3], g.opacities, g.colors)
