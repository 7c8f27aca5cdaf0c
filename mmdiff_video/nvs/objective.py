"""Rendering, and the loss of training: the difference between rendered and true views."""

import logging

import torch
from torch import Tensor, nn

from mmdiff_video.errors import InputError
from mmdiff_video.nvs.config import LossConfig
from recon.gaussians import Gaussians
from recon.losses import opacity_sparsity, squared_error, structural_dissimilarity
from recon.perceptual import Lpips, LpipsUnavailable, load_lpips
from recon.rasterize import Rendered, rasterize
from recon.shift_tolerant import MIN_SIZE, load_st_lpips

logger = logging.getLogger(__name__)

NEAR_PLANE = 0.01
"""World units: Gaussians closer to a camera than this are not rendered by it."""


def render(gaussians: Gaussians, viewmats: Tensor, Ks: Tensor, height: int, width: int) -> Rendered:
    """Render one scene on white, as Lyra-1 does.

    Args:
        gaussians: without batch dimension.
        viewmats: [V, 4, 4]. Ks: [V, 3, 3] in pixels.
        height, width: of the pictures.

    Returns:
        image [V, H, W, 3], depth [V, H, W], alpha [V, H, W], float32.
    """
    return rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        viewmats,
        Ks,
        width,
        height,
        near_plane=NEAR_PLANE,
        backgrounds=torch.ones(3, device=viewmats.device),
    )


def lpips_or_reason(device: torch.device) -> tuple[Lpips | None, str]:
    """Load LPIPS, or say in one line why there is none.

    Raises:
        InputError: the file that ``MMDIFF_LPIPS_WEIGHTS`` names holds no such weights.
    """
    try:
        loaded = load_lpips(device)
    except ValueError as error:
        raise InputError(str(error)) from None
    return (None, loaded.reason) if isinstance(loaded, LpipsUnavailable) else (loaded, "")


def perceptual_metrics(
    device: torch.device, height: int, width: int
) -> tuple[dict[str, nn.Module], str]:
    """Load LPIPS, else ST-LPIPS if its weights are installed; and say why there is no LPIPS.

    Args:
        device: to compute on.
        height, width: of the pictures that will be scored.

    Raises:
        InputError: as :func:`lpips_or_reason`.
    """
    lpips, reason = lpips_or_reason(device)
    if lpips is not None:
        return {"lpips": lpips}, ""
    stand_in = load_st_lpips(device)
    if isinstance(stand_in, LpipsUnavailable) or min(height, width) < MIN_SIZE:
        return {}, reason
    return {"st_lpips": stand_in}, reason


class RenderLoss(nn.Module):
    """Squared error, 1 - SSIM and LPIPS of rendered views, and a price on opacity.

    Without LPIPS weights on the machine the perceptual term is left out, and a log line says so.

    Raises:
        InputError: the perceptual term is the only one that compares, and is left out; or the
            named file of its weights is none.
    """

    def __init__(self, config: LossConfig, device: torch.device):
        super().__init__()
        self.config = config
        self.lpips = None
        if config.perceptual > 0:
            self.lpips, reason = lpips_or_reason(device)
            if self.lpips is None:
                if not (config.mse or config.ssim):
                    raise InputError(
                        f"only loss.perceptual has a weight, and there is no LPIPS: {reason}; give"
                        " loss.mse or loss.ssim a weight"
                    )
                logger.warning("training without the perceptual loss: %s", reason)

    def forward(
        self, gaussians: Gaussians, images: Tensor, viewmats: Tensor, Ks: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare renders with true views.

        Args:
            gaussians: batch dimension B.
            images: [B, V, 3, H, W] in [0, 1]. viewmats: [B, V, 4, 4]. Ks: [B, V, 3, 3] in pixels.

        Returns:
            The loss, and its terms with the PSNR of the batch, all detached scalars.
        """
        height, width = images.shape[-2:]
        renders = torch.stack(
            [
                render(gaussians[b], viewmats[b], Ks[b], height, width).image
                for b in range(len(images))
            ]
        ).movedim(-1, -3)  # [B, V, 3, H, W]
        squared = squared_error(renders, images).mean()
        loss = self.config.mse * squared
        logs = {"mse": squared.detach(), "psnr": -10 * squared.detach().clamp_min(1e-10).log10()}
        if self.config.ssim > 0:
            unlike = structural_dissimilarity(renders.flatten(0, 1), images.flatten(0, 1)).mean()
            loss = loss + self.config.ssim * unlike
            logs["ssim"] = 1 - unlike.detach()
        if self.lpips is not None:
            perceptual = self.lpips(renders.flatten(0, 1), images.flatten(0, 1)).mean()
            loss = loss + self.config.perceptual * perceptual
            logs["lpips"] = perceptual.detach()
        if self.config.opacity > 0:
            opacity = opacity_sparsity(gaussians.opacities).mean()
            loss = loss + self.config.opacity * opacity
            logs["opacity"] = opacity.detach()
        return loss, logs
