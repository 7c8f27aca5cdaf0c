"""Concatenation over timesteps, reduced by a 1x1 convolution."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mmdiff_video.features.aggregators.base import AggregatorConfig, LayerAggregator


@dataclass(frozen=True, kw_only=True)
class ConcatConfig(AggregatorConfig):
    """Concatenates; no settings of its own."""

    def build(self, channels: int, timesteps: Sequence[float]) -> LayerAggregator:
        return ConcatTimesteps(self, channels, timesteps)


class ConcatTimesteps(LayerAggregator):
    """Concatenates the T projected maps and reduces T * D -> D with a 1x1 convolution."""

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, timesteps)
        self.reduce = nn.Linear(len(timesteps) * config.width, config.width)

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reduce the concatenation; there are no mixing weights."""
        return self.reduce(tokens.flatten(-2)), None
