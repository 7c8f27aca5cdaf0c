"""The reconstruction loss of a VAE."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.config import VAELossConfig
from recon.perceptual import LpipsUnavailable, load_lpips

logger = logging.getLogger(__name__)

_SCALES = 3
_LEAST_MSE = 5e-6
"""Added under the logarithm: the error of rounding pixels in [-1, 1] to 8 bits."""


class VAELoss:
    """The weighted sum of the terms that :class:`VAELossConfig` describes.

    Args:
        config: the weights of the terms.
        device: where LPIPS runs.

    Attributes:
        lpips: the model, or the reason why there is none.

    Raises:
        InputError: the file that ``MMDIFF_LPIPS_WEIGHTS`` names holds no such weights.
    """

    def __init__(self, config: VAELossConfig, device: torch.device):
        self.config = config
        try:
            self.lpips = (
                load_lpips(device)
                if config.perceptual > 0
                else LpipsUnavailable("loss.perceptual is 0")
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        if isinstance(self.lpips, LpipsUnavailable) and config.perceptual > 0:
            logger.info("training without the perceptual term: %s", self.lpips.reason)

    def __call__(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        """Loss of a ``Coder`` on one batch of uint8 crops [B, F, H, W, 3]."""
        video = to_video(batch)
        reconstruction, mean, log_variance = model(video)
        squared = (reconstruction - video).square()
        terms = {
            "mse": squared.mean(),
            "log_mse": (squared.mean((1, 3, 4)) + _LEAST_MSE).log().mean(),
            "l1": (reconstruction - video).abs().mean(),
            "gradient": gradient_error(reconstruction, video).mean(),
            "kl": 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(),
        }
        if not isinstance(self.lpips, LpipsUnavailable):
            images, targets = (
                (v.transpose(1, 2).flatten(0, 1) / 2 + 0.5) for v in (reconstruction, video)
            )
            terms["perceptual"] = self.lpips(images, targets).mean()
        total = sum(getattr(self.config, name) * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        error = ((reconstruction.detach().clamp(-1, 1) - video) / 2).square().mean()
        return total, {**terms, "psnr": -10 * torch.log10(error)}


def to_video(pixels: Tensor) -> Tensor:
    """uint8 [B, F, H, W, 3] -> [B, 3, F, H, W] in [-1, 1]."""
    return pixels.movedim(-1, 1).float() / 127.5 - 1


def gradient_error(video: Tensor, target: Tensor) -> Tensor:
    """Absolute error of the differences between neighbours, at three sizes.

    Args:
        video, target: [B, 3, F, H, W].

    Returns:
        per frame, [B * F]: the sum over the sizes of the mean over both directions.
    """
    error = (video - target).transpose(1, 2).flatten(0, 1)  # differences are linear
    total = error.new_zeros(len(error))
    for _ in range(_SCALES):
        across = (error[..., 1:] - error[..., :-1]).abs().mean((1, 2, 3))
        down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean((1, 2, 3))
        total = total + (across + down) / 2
        error = avg_pool2d(error, 2)
    return total
