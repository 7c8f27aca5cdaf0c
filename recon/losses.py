"""Losses between renders and targets, unreduced: a value per element, weights left to the caller.

The perceptual loss is :class:`recon.perceptual.Lpips`.
"""

import torch
from torch import Tensor

from recon.metrics import SSIM_WINDOW


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


def l1_ssim(
    prediction: Tensor,  # [N, C, H, W]
    target: Tensor,  # [N, C, H, W]
    weight: float = 0.2,
    mask: Tensor | None = None,  # [N, H, W]
) -> Tensor:
    """The loss of 3D Gaussian Splatting: (1 - weight) L1 + weight (1 - SSIM), a value per image.

    L1 is the mean over the pixels that count, SSIM that over the windows inside the image whose
    middle counts (see :func:`structural_dissimilarity`). Pixels that do not count are taken to be
    as in the target: they get no gradient, and what is drawn there changes nothing.

    On the CPU and in float32 the compiled library computes value and gradient in one pass, with the
    digits of float64 (docs/benchmarks.md), from pictures of any layout; without the library, on
    other devices and in float64 it is PyTorch in the precision of the images.

    Args:
        prediction: in [0, 1], for example ``rendered.image.movedim(-1, 1)``. Differentiable once.
        target: as ``prediction``, without a gradient.
        weight: of SSIM, in [0, 1].
        mask: bool, True where a pixel counts; None is everywhere.

    Returns:
        [N]; 0 for an image of which nothing counts.

    Raises:
        ValueError: shapes, dtypes or devices that differ, images smaller than the window of 11 x 11
            pixels, a weight outside [0, 1], a mask that is not [N, H, W] of bool, or a target that
            wants a gradient.
    """
    _check_comparison(prediction, target, weight, mask)
    middles = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    if prediction.device.type == "cpu" and prediction.dtype == torch.float32:
        from recon.rasterize import cpu_library, cpu_loss

        if cpu_library.unavailable() is None:
            channels, height, width = prediction.shape[1:]
            if mask is None:
                windows = (height - SSIM_WINDOW + 1) * (width - SSIM_WINDOW + 1)
                counts = torch.tensor([[height * width], [windows]], dtype=torch.float64)
                counts = counts.expand(2, len(prediction))
            else:
                counts = torch.stack([mask.sum((1, 2)), mask[:, middles, middles].sum((1, 2))])
            shares = torch.tensor([[1 - weight], [weight]], dtype=torch.float64)
            scales = shares / (channels * counts).clamp(min=1)
            return cpu_loss.l1_ssim(prediction, target, mask, *scales.contiguous())
    if mask is not None:
        prediction = torch.where(mask[:, None], prediction, target)
    l1 = (prediction - target).abs()
    unlike = structural_dissimilarity(prediction, target)
    return (1 - weight) * _mean(l1, mask) + weight * _mean(
        unlike, None if mask is None else mask[:, middles, middles]
    )


def opacity_sparsity(opacities: Tensor) -> Tensor:
    """L1 of opacities: pulls Gaussians that explain nothing towards zero, so they can be pruned."""
    return opacities.abs()


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Over [N, C, H, W] where the mask [N, H, W] is set: [N]."""
    if mask is None:
        return values.mean((1, 2, 3))
    counted = torch.where(mask[:, None], values, 0).sum((1, 2, 3))
    return counted / (values.shape[1] * mask.sum((1, 2))).clamp(min=1)


def _check_comparison(
    prediction: Tensor, target: Tensor, weight: float, mask: Tensor | None
) -> None:
    for what in ("shape", "dtype", "device"):
        mine, other = getattr(prediction, what), getattr(target, what)
        if mine != other:
            raise ValueError(f"prediction and target differ in {what}: {mine} and {other}")
    if prediction.ndim != 4 or min(prediction.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"images must be [N, C, H, W] of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, not "
            f"{tuple(prediction.shape)}"
        )
    if not prediction.is_floating_point():
        raise ValueError(f"images must be floating-point, not {prediction.dtype}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], not {weight}")
    if target.requires_grad:
        raise ValueError("target must not require a gradient: it has none (detach it)")
    counted = (len(prediction), *prediction.shape[-2:])
    if mask is not None and (mask.dtype != torch.bool or mask.shape != counted):
        raise ValueError(f"mask must be {counted} of bool, not {tuple(mask.shape)} of {mask.dtype}")
