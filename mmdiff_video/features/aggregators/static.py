"""Learned weights that are the same at every position."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdiff_video.features.aggregators.base import AggregatorConfig, LayerAggregator, weighted_sum


@dataclass(frozen=True, kw_only=True)
class StaticConfig(AggregatorConfig):
    """Weighs by learned constants; no settings of its own."""

    def build(self, channels: int, timesteps: Sequence[float]) -> LayerAggregator:
        return StaticWeights(self, channels, timesteps)


class StaticWeights(LayerAggregator):
    """One learned weight per layer and timestep, the same everywhere (Diffusion Hyperfeatures).

    Hyperfeatures normalises over all layers and timesteps at once, because it sums the layers too;
    here each layer keeps its own map, so the softmax runs over its timesteps. Starts as the mean.
    """

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, timesteps)
        self.logits = nn.Parameter(torch.zeros(len(timesteps)))

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weigh the timesteps by the learned weights."""
        return weighted_sum(tokens, self.logits.softmax(-1).expand(tokens.shape[:-1]))
