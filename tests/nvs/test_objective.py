"""The training loss: its terms and their weights."""

import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.nvs import objective
from mmdiff_video.nvs.config import LossConfig
from mmdiff_video.nvs.objective import RenderLoss, render
from recon.gaussians import Gaussians
from recon.metrics import ssim

SIDE = 24


@pytest.fixture(scope="module")
def scene() -> tuple[Gaussians, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch of one scene, two views of it, and pictures that it should look like."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(1, 60, 3, generator=generator) - 0.5 + torch.tensor([0.0, 0.0, 2.0])
    gaussians = Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 60, 4),
        scales=torch.full((1, 60, 3), 0.08),
        opacities=torch.full((1, 60), 0.7),
        colors=torch.rand(1, 60, 3, generator=generator),
    )
    viewmats = torch.eye(4).repeat(1, 2, 1, 1)
    viewmats[0, 1, 0, 3] = 0.1
    K = torch.tensor([[24.0, 0, SIDE / 2], [0, 24, SIDE / 2], [0, 0, 1]])
    images = torch.rand(1, 2, 3, SIDE, SIDE, generator=generator)
    return gaussians, images, viewmats, K.repeat(1, 2, 1, 1)


def test_the_loss_is_the_weighted_sum_of_its_terms(scene):
    gaussians, images, viewmats, Ks = scene
    config = LossConfig(mse=0.5, ssim=0.2, perceptual=0, opacity=0.01)
    loss, logs = RenderLoss(config, torch.device("cpu"))(*scene)
    renders = render(gaussians[0], viewmats[0], Ks[0], SIDE, SIDE).image.movedim(-1, 1)
    mse = (renders - images[0]).square().mean()
    similarity = ssim(renders, images[0]).mean()
    torch.testing.assert_close(loss, 0.5 * mse + 0.2 * (1 - similarity) + 0.01 * 0.7)
    torch.testing.assert_close(logs["mse"], mse)
    torch.testing.assert_close(logs["ssim"], similarity)


def test_a_loss_of_nothing_but_a_missing_network_is_refused(monkeypatch):
    def missing(device: torch.device) -> tuple[None, str]:
        return None, "no weights here"

    monkeypatch.setattr(objective, "lpips_or_reason", missing)
    with pytest.raises(InputError, match=r"only loss\.perceptual .* no weights here"):
        RenderLoss(LossConfig(mse=0), torch.device("cpu"))


def test_terms_of_no_weight_are_neither_computed_nor_logged(scene):
    loss, logs = RenderLoss(LossConfig(perceptual=0), torch.device("cpu"))(*scene)
    assert set(logs) == {"mse", "psnr"}
    torch.testing.assert_close(loss, logs["mse"])
