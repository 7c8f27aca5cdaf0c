"""Losses: known values and gradients."""

import torch
import torch.nn.functional as F

from recon.losses import opacity_sparsity, squared_error, structural_dissimilarity
from recon.metrics import ssim


def test_squared_error_averages_to_the_mse():
    a, b = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    assert squared_error(a, b).shape == a.shape
    torch.testing.assert_close(squared_error(a, b).mean(), F.mse_loss(a, b))


def test_structural_dissimilarity_averages_to_what_ssim_lacks_of_one():
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(2, 3, 24, 31, generator=generator)
    images = (targets + 0.1 * torch.randn(targets.shape, generator=generator)).clamp(0, 1)
    values = structural_dissimilarity(images, targets)
    assert values.shape == (2, 3, 14, 21)
    torch.testing.assert_close(1 - values.mean((1, 2, 3)), ssim(images, targets))
    assert structural_dissimilarity(targets, targets).abs().max() < 1e-5


def test_structural_dissimilarity_has_the_gradient_of_float64():
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(1, 3, 16, 16, generator=generator)
    images = torch.rand(1, 3, 16, 16, generator=generator)
    images[..., 8:] = targets[..., 8:] = 0.5  # flat: its variances are all rounding
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = images.to(dtype, copy=True).requires_grad_()
        structural_dissimilarity(leaf, targets.to(dtype)).mean().backward()
        gradients.append(leaf.grad.double())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_opacity_sparsity_pulls_down_evenly():
    opacities = torch.tensor([0.1, 0.9], requires_grad=True)
    opacity_sparsity(opacities).sum().backward()
    assert opacities.grad is not None
    assert opacities.grad.tolist() == [1.0, 1.0]
