"""Losses between renders and targets, unreduced: a value per element, weights left to the caller.

The perceptual loss is :class:`recon.perceptual.Lpips`.
"""

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


def opacity_sparsity(opacities: Tensor) -> Tensor:
    """L1 of opacities: pulls Gaussians that explain nothing towards zero, so they can be pruned."""
    return opacities.abs()
