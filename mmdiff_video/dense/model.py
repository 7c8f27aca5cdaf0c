"""The trainable part: from what a backbone gives to a head's output.

Pictures are videos of one frame; of a clip, every latent frame is decoded by itself.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.concepts.reader import check_concepts
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.heads import DenseHead, build_head
from mmdiff_video.features.aggregators import SpatioTemporalAggregator
from mmdiff_video.tasks import Task


class LatentMaps(nn.Module):
    """The VAE's latent as one map on the transformer's token grid: the baseline.

    Neighbours that the transformer sees as one token become channels, then a projection to the
    width of fused maps.
    """

    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        self.fold = nn.PixelUnshuffle(patch)
        self.project = nn.Conv2d(channels * patch**2, width, 1)

    def forward(self, features: DiTFeatures) -> list[Tensor]:
        """[B, c, F, h, w] to one map [B * F, D, H, W]."""
        return [self.project(self.fold(_fold_frames(features.latent)))]


class FusedMaps(nn.Module):
    """Aggregated taps, a map for each tapped layer."""

    def __init__(self, aggregator: SpatioTemporalAggregator):
        super().__init__()
        self.aggregator = aggregator

    def forward(self, features: DiTFeatures) -> list[Tensor]:
        """Fuse: one [B * F, D, H, W] for each tapped layer."""
        return [_fold_frames(fused) for fused in self.aggregator(features.maps).values()]


class DenseNet(nn.Module):
    """Maps and head; concept maps and DINO features are concatenated to each map, if a run has any.

    Build with :func:`build_model`.
    """

    def __init__(self, maps: LatentMaps | FusedMaps, head: DenseHead, dino: nn.Conv2d | None):
        super().__init__()
        self.maps = maps
        # the layout in which convolutions are fastest: 1.2 to 1.5 times in training on CPUs
        self.head = head.to(memory_format=torch.channels_last)
        self.dino = dino

    def forward(self, features: DiTFeatures, dino: Tensor | None = None) -> Tensor:
        """Decode.

        Args:
            features: of the backbone.
            dino: [B, C, F, H, W] on the token grid, where the run reads them.

        Returns:
            [B, K, F, h, w]: F latent frames, h x w a multiple of the token grid.
        """
        maps = self.maps(features)
        beside: list[Tensor] = []
        if features.concepts is not None:
            beside.append(_fold_frames(features.concepts).to(maps[0].dtype))
        if self.dino is not None:
            assert dino is not None, "this run reads DINO features"
            beside.append(self.dino(_fold_frames(dino).float()))
        frames = features.latent.shape[2]
        joined = (torch.cat([m, *beside], 1) for m in maps)
        output = self.head([m.contiguous(memory_format=torch.channels_last) for m in joined])
        return output.unflatten(0, (-1, frames)).transpose(1, 2)


def build_model(
    config: DenseConfig,
    backbone: Backbone,
    *,
    outputs: int,
    head: str,
    beside: int = 0,
    dino_channels: int = 0,
) -> DenseNet:
    """Build what a complete config describes, with fresh weights.

    Args:
        config: complete.
        backbone: whose features are read.
        outputs: channels K of the output.
        head: a key of :data:`mmdiff_video.dense.heads.HEADS`.
        beside: number of concept maps.
        dino_channels: of the DINO features; 0: none.

    Raises:
        InputError: an unknown tap or head.
    """
    geometry, width = backbone.geometry, config.aggregator.width
    if config.input == "latent":
        maps = LatentMaps(geometry.channels, geometry.patch, width)
        layers = 1
    else:
        taps = backbone.resolve_taps(config.backbone.taps)
        layers = len(taps)
        maps = FusedMaps(
            SpatioTemporalAggregator(
                config.aggregator,
                layers={tap.name: tap.width for tap in taps},
                timesteps=config.backbone.timesteps or backbone.defaults.timesteps,
            )
        )
    channels = width + beside + (width if dino_channels else 0)
    built = build_head(
        head,
        deeplab=config.deeplab,
        dpt=config.dpt,
        channels=[channels] * layers,
        outputs=outputs,
    )
    return DenseNet(maps, built, nn.Conv2d(dino_channels, width, 1) if dino_channels else None)


def concepts_of(config: DenseConfig, task: Task) -> tuple[str, ...]:
    """The words whose maps a run reads; one map each.

    Raises:
        InputError: words that make no set of concepts.
    """
    if not config.concept_maps:
        return ()
    return check_concepts(task.concepts if config.concepts is None else config.concepts)


def parameter_counts(model: DenseNet) -> Mapping[str, int]:
    """Count trainable parameters by part, with ``total``; shares of a part begin with a blank."""

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    if isinstance(model.maps, FusedMaps):
        each = model.maps.aggregator.parameter_counts()
        parts = {"aggregators": count(model.maps)}
        parts |= {f"  of {tap}": number for tap, number in each.items()}
    else:
        parts = {"latent projection": count(model.maps)}
    if model.dino is not None:
        parts["DINO projection"] = count(model.dino)
    return {**parts, "head": count(model.head), "total": count(model)}


def _fold_frames(maps: Tensor) -> Tensor:
    """[B, C, F, H, W] to [B * F, C, H, W]."""
    return maps.transpose(1, 2).flatten(0, 1)
