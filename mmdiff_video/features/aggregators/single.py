"""One timestep alone: the ablation without aggregation."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mmdiff_video.features.aggregators.base import AggregatorConfig, LayerAggregator


@dataclass(frozen=True, kw_only=True)
class SingleConfig(AggregatorConfig):
    """Reads the cleanest timestep; no settings of its own."""

    def build(self, channels: int, timesteps: Sequence[float]) -> LayerAggregator:
        return SingleTimestep(self, channels, timesteps)


class SingleTimestep(LayerAggregator):
    """Reads the cleanest timestep and has parameters for no other.

    To study another one, extract and build with that timestep alone.
    """

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, (min(timesteps),))
        self.read = timesteps.index(min(timesteps))

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the one timestep there is."""
        return tokens[..., 0, :], tokens.new_ones(tokens.shape[:-1])

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Fuse the cleanest of the T maps; its mixing weight is 1, the others' 0."""
        fused, ones = super().forward(maps[:, self.read : self.read + 1])
        assert ones is not None
        weights = ones.new_zeros(ones.shape[0], maps.shape[1], *ones.shape[2:])
        weights[:, self.read] = ones[:, 0]
        return fused, weights
