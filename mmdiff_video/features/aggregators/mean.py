"""The plain mean over timesteps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdiff_video.features.aggregators.base import AggregatorConfig, LayerAggregator


@dataclass(frozen=True, kw_only=True)
class MeanConfig(AggregatorConfig):
    """Averages; no settings of its own."""

    def build(self, channels: int, timesteps: Sequence[float]) -> LayerAggregator:
        return MeanTimesteps(self, channels, timesteps)


class MeanTimesteps(LayerAggregator):
    """The plain average over timesteps."""

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weigh all timesteps alike."""
        weights = torch.full_like(tokens[..., 0], 1 / tokens.shape[-2])
        return tokens.mean(-2), weights
