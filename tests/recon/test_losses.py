"""Losses: known values, masks, invariances and finite gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.losses import (
    masked_mean,
    normalized_depth_error,
    opacity_sparsity,
    scale_invariant_depth_error,
    squared_error,
    structural_dissimilarity,
)
from recon.metrics import ssim


def depths(seed: int, frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, 5, 7, generator=generator) * 4 + 0.5


def some_mask(seed: int = 9) -> torch.Tensor:
    mask = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(seed)) > 0.3
    assert 0 < mask.sum() < mask.numel()
    return mask


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


def test_normalized_depth_error_is_the_formula():
    a, b, mask = depths(0), depths(1), some_mask()
    values = normalized_depth_error(a, b, mask)
    for frame in range(2):
        m = mask[frame]
        sides = []
        for side in (a[frame][m], b[frame][m]):
            centred = side - side.median()
            sides.append(centred / centred.abs().mean())
        expected = F.smooth_l1_loss(*sides, reduction="none")
        torch.testing.assert_close(values[frame][m], expected)
    assert values[~mask].abs().max() == 0


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-3, 3))
def test_normalized_depth_error_is_blind_to_scale_and_shift(scale, shift):
    target, mask = depths(1), some_mask()
    assert normalized_depth_error(target * scale + shift, target, mask).max() < 1e-6


@pytest.mark.parametrize("variance_weight", [0.0, 0.5, 1.0])
def test_scale_invariant_error_averages_to_eigens(variance_weight):
    a, b, mask = depths(0), depths(1), some_mask()
    values = scale_invariant_depth_error(a, b, mask, variance_weight)
    assert (values >= 0).all()
    for frame in range(2):
        g = (a[frame].log() - b[frame].log())[mask[frame]]
        expected = g.square().mean() - variance_weight * g.mean().square()
        torch.testing.assert_close(values[frame][mask[frame]].mean(), expected)


def test_scale_invariant_error_of_a_scaled_depth():
    target, mask = depths(1), some_mask()
    scaled = target * math.e
    assert scale_invariant_depth_error(scaled, target, mask, 1.0).max() < 1e-10
    half = scale_invariant_depth_error(scaled, target, mask, 0.5)[mask]
    torch.testing.assert_close(half, torch.full_like(half, 0.5))


@pytest.mark.parametrize("loss", [normalized_depth_error, scale_invariant_depth_error])
def test_what_lies_outside_the_mask_reaches_neither_value_nor_gradient(loss):
    a, b, mask = depths(0), depths(1), some_mask()
    mask[1] = False  # a frame without any depth
    clean = loss(a, b, mask)
    broken = a.clone()
    broken[~mask] = torch.tensor([float("nan"), float("inf"), 0.0, -1.0]).repeat(99)[
        : int((~mask).sum())
    ]
    broken.requires_grad_()
    target = b.masked_fill(~mask, float("nan"))
    values = loss(broken, target, mask)
    assert torch.equal(values, clean)
    masked_mean(values, mask).backward()
    assert broken.grad is not None
    assert broken.grad.isfinite().all()
    assert broken.grad[~mask].abs().max() == 0
    assert broken.grad[mask].abs().max() > 0


def test_a_flat_depth_has_a_finite_loss_and_gradient():
    flat = torch.ones(1, 5, 7, requires_grad=True)
    mask = torch.ones(1, 5, 7, dtype=torch.bool)
    normalized_depth_error(flat, depths(1, frames=1), mask).mean().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_normalized_depth_error_gradient_is_that_of_finite_differences():
    target, mask = depths(1).double(), some_mask()
    a = depths(0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: normalized_depth_error(x, target, mask), a)


def test_masked_mean_broadcasts_and_survives_an_empty_mask():
    values = torch.arange(12.0).reshape(1, 3, 2, 2)
    mask = torch.tensor([[True, False], [False, False]])
    assert masked_mean(values, mask).item() == (0 + 4 + 8) / 3
    assert masked_mean(values, torch.zeros_like(mask)).item() == 0


def test_opacity_sparsity_pulls_down_evenly():
    opacities = torch.tensor([0.1, 0.9], requires_grad=True)
    opacity_sparsity(opacities).sum().backward()
    assert opacities.grad is not None
    assert opacities.grad.tolist() == [1.0, 1.0]
