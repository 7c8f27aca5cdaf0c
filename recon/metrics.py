"""Image metrics of novel views, one value per image, as the RealEstate10K literature computes them.

Images are [N, 3, H, W] in [0, 1]. Average per scene first, then over scenes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

SSIM_WINDOW = 11


def to_8bit(images: Tensor) -> Tensor:
    """Clip to [0, 1] and round to the 256 values that a saved picture can hold."""
    return (images.clamp(0, 1) * 255).round() / 255


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, [N]; infinite for equal images.

    Raises:
        ValueError: shapes that differ or are not [N, 3, H, W].
    """
    _check(images, targets)
    error = (images.double() - targets.double()).square().mean((1, 2, 3))
    return (-10 * torch.log10(error)).float()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), [N]: Gaussian window 11 x 11, sigma 1.5, range 1.

    Averaged over channels and over the positions whose window lies inside the image, with
    population (not sample) variances: scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, use_sample_covariance=False``.

    Raises:
        ValueError: shapes that differ or are not [N, 3, H, W], or images smaller than the window.
    """
    from kornia.metrics import ssim as ssim_map

    _check(images, targets)
    height, width = images.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels,"
            f" not {height} x {width}"
        )
    # In float32 the variances of flat regions drown in rounding.
    values = ssim_map(
        images.double(), targets.double(), SSIM_WINDOW, max_val=1.0, eps=0.0, padding="valid"
    )
    return values.mean((1, 2, 3)).float()


@torch.no_grad()
def score_views(
    renders: Tensor, targets: Tensor, perceptual: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Score renders against the true views.

    Args:
        renders: [N, 3, H, W]; rounded to 8 bits first (:func:`to_8bit`).
        targets: [N, 3, H, W] true views, taken as they are.
        perceptual: further metrics by name, such as ``lpips`` from
            :func:`recon.perceptual.load_lpips`; each maps the two pictures to [N].

    Returns:
        ``psnr`` (dB), ``ssim`` and the perceptual metrics: [N] each.

    Raises:
        ValueError: as :func:`ssim`.
    """
    renders = to_8bit(renders)
    return {
        "psnr": psnr(renders, targets),
        "ssim": ssim(renders, targets),
        **{name: model(renders, targets) for name, model in perceptual.items()},
    }


def _check(images: Tensor, targets: Tensor) -> None:
    if images.shape != targets.shape:
        raise ValueError(
            f"images {tuple(images.shape)} and targets {tuple(targets.shape)} differ in shape"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be [N, 3, H, W], not {tuple(images.shape)}")
