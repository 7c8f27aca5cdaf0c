"""The trainable part: from what a backbone gives to 3D Gaussians.

Both inputs of the paper's comparison (Table 9) end in the same decoder, which takes a latent video
and does not know where it came from.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.features.aggregators import SpatioTemporalAggregator
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.training import count_parameters
from recon.decoder import LatentTo3DGS, SceneSpace
from recon.gaussians import Gaussians


class LatentReconstructor(nn.Module):
    """Gaussians from the latent alone: the baseline."""

    def __init__(self, decoder: LatentTo3DGS):
        super().__init__()
        self.decoder = decoder

    def forward(
        self, features: DiTFeatures, viewmats: Tensor, Ks: Tensor, height: int, width: int
    ) -> Gaussians:
        """Decode.

        Args:
            features: only ``latent`` [B, c, F, h, w] is read.
            viewmats: [B, N, 4, 4] of the N input frames, world-to-camera.
            Ks: [B, N, 3, 3] in pixels of ``height`` x ``width``.
            height, width: of the input frames.

        Returns:
            Gaussians with batch dimension B, in the world of ``viewmats``.
        """
        return self.decoder(features.latent, viewmats, Ks, height=height, width=width)


class FeatureReconstructor(nn.Module):
    """Gaussians from aggregated taps: the fused maps of all layers, concatenated over channels."""

    def __init__(self, aggregator: nn.Module, decoder: LatentTo3DGS):
        super().__init__()
        self.aggregator = aggregator
        self.decoder = decoder

    def forward(
        self, features: DiTFeatures, viewmats: Tensor, Ks: Tensor, height: int, width: int
    ) -> Gaussians:
        """Fuse and decode; arguments as :meth:`LatentReconstructor.forward`."""
        fused = self.aggregator(features.maps)
        video = torch.cat(list(fused.values()), 1)  # [B, L * D, F, H, W]
        return self.decoder(video, viewmats, Ks, height=height, width=width)


def build_model(config: NVSConfig, backbone: Backbone, space: SceneSpace) -> nn.Module:
    """Build the reconstructor that a config describes, with fresh weights.

    Args:
        config: complete, or with taps and timesteps left to the backbone's defaults.
        backbone: whose latents or features are decoded.
        space: where Gaussians may lie and how large they may be.

    Raises:
        InputError: an unknown tap.
        ValueError: strides of the latent that the decoder cannot undo.
    """
    geometry = backbone.geometry
    if config.input == "latent":
        return LatentReconstructor(
            LatentTo3DGS(
                config.decoder,
                in_channels=geometry.channels,
                stride=(geometry.time_stride, geometry.space_stride, geometry.space_stride),
                patch=geometry.patch,
                space=space,
            )
        )
    taps = backbone.resolve_taps(config.backbone.taps)
    aggregator = SpatioTemporalAggregator(
        config.aggregator,
        layers={tap.name: tap.width for tap in taps},
        timesteps=config.backbone.timesteps or backbone.defaults.timesteps,
    )
    side = geometry.space_stride * geometry.patch
    decoder = LatentTo3DGS(
        config.decoder,
        in_channels=len(taps) * config.aggregator.width,
        stride=(geometry.time_stride, side, side),
        patch=1,
        space=space,
    )
    return FeatureReconstructor(aggregator, decoder)


def widen_to(
    config: NVSConfig, target: int, backbone: Backbone, space: SceneSpace
) -> tuple[NVSConfig, int]:
    """Widen the decoder's trunk until the model has about ``target`` trainable parameters.

    Args:
        config: of the model; the widths that are tried start at its decoder's.
        target: trainable parameters wanted.
        backbone, space: see :func:`build_model`.

    Returns:
        The config with the width (a multiple of the head count) whose count is nearest to the
        target, and that count.
    """
    step = config.decoder.heads
    best: tuple[NVSConfig, int] | None = None
    width = config.decoder.width
    while True:
        candidate = replace(config, decoder=replace(config.decoder, width=width))
        with torch.device("meta"):
            count = count_parameters(build_model(candidate, backbone, space))["total"]
        if best is None or abs(count - target) < abs(best[1] - target):
            best = candidate, count
        if count >= target:
            return best
        width += step
