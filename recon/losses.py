"""Losses between renders and targets, unreduced: a value per element, weights left to the caller.

The perceptual loss is :class:`recon.perceptual.Lpips`. Depths are [..., H, W], one frame per
leading index; masks are boolean of the same shape, True where the target is known. Masked-out
elements count zero, whatever they hold; :func:`masked_mean` averages over the others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import SSIM_WINDOW

TINY = 1e-6


def squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """Squared difference per element, same shape as the inputs; its mean is the MSE."""
    return (images - targets).square()


def structural_dissimilarity(images: Tensor, targets: Tensor) -> Tensor:
    """1 - SSIM, the D-SSIM term of 3D Gaussian Splatting (Kerbl et al. 2023, Eq. 7).

    Args:
        images: [N, 3, H, W] in [0, 1].
        targets: as ``images``.

    Returns:
        [N, 3, H - 10, W - 10], a value per window that lies inside the image, in [0, 2]; what
        :func:`recon.metrics.ssim` averages, but in the precision of the images.
    """
    from kornia.metrics import ssim

    return 1 - ssim(images, targets, SSIM_WINDOW, max_val=1.0, eps=0.0, padding="valid")


def normalized_depth_error(depths: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Smooth L1 between depths normalised per frame, as in Lyra: blind to scale and shift.

    Each frame of either side is centred on its median and divided by its mean absolute deviation
    from it, both over the mask.
    """
    difference = F.smooth_l1_loss(
        _normalize(depths, mask), _normalize(targets, mask), reduction="none"
    )
    return torch.where(mask, difference, 0)


def scale_invariant_depth_error(
    depths: Tensor, targets: Tensor, mask: Tensor, variance_weight: float = 0.5
) -> Tensor:
    """Scale-invariant log error (Eigen et al. 2014), spread over the elements of each frame.

    With g = log depth - log target and m its mean over the mask, the elements are
    (g - (1 - sqrt(1 - variance_weight)) m)^2: never negative, and their mean over the mask is
    Eigen's mean(g^2) - variance_weight m^2.

    Args:
        depths: positive where ``mask`` is True.
        targets: as ``depths``.
        mask: see the module.
        variance_weight: 0 is the plain squared log error, 1 ignores scale altogether.
    """
    log_depths = torch.where(mask, depths, 1).clamp(min=TINY).log()
    log_targets = torch.where(mask, targets, 1).clamp(min=TINY).log()
    g = log_depths - log_targets  # 0 outside the mask
    mean = g.sum((-2, -1), keepdim=True) / _count(mask)
    return torch.where(mask, (g - (1 - (1 - variance_weight) ** 0.5) * mean).square(), 0)


def opacity_sparsity(opacities: Tensor) -> Tensor:
    """L1 of opacities: pulls Gaussians that explain nothing towards zero, so they can be pruned."""
    return opacities.abs()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average where ``mask`` (broadcast to ``values``) is True; 0 where it never is."""
    mask = mask.expand_as(values)
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def _count(mask: Tensor) -> Tensor:
    return mask.sum((-2, -1), keepdim=True).clamp(min=1)


def _normalize(depths: Tensor, mask: Tensor) -> Tensor:
    known = depths.detach().masked_fill(~mask, torch.nan).flatten(-2)
    # The index of a median that may be missing altogether: gathering lets its gradient through.
    index = known.nanmedian(-1, keepdim=True).indices
    depths = torch.where(mask, depths, 0)
    median = depths.flatten(-2).gather(-1, index)[..., None]
    deviation = torch.where(mask, (depths - median).abs(), 0)
    scale = deviation.sum((-2, -1), keepdim=True) / _count(mask)
    return (depths - median) / scale.clamp(min=TINY)
