"""The aggregators of all tapped layers together."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmdiff_video.features.aggregators.base import AggregatorConfig


class SpatioTemporalAggregator(nn.Module):
    """One independent :class:`LayerAggregator` per tapped layer (paper Sec. 3.1).

    Args:
        config: of any variant.
        layers: tap name -> channels C of its maps.
        timesteps: the set T in [0, 1] in the order of the maps; the smallest is the cleanest.

    Attributes:
        taps: tap names, in the order of ``layers``.
        timesteps: the set T that the parameters belong to, in the order of the maps.
        width: channels D of every fused map.

    Raises:
        ValueError: no layers, or timesteps that are none or not distinct.
    """

    def __init__(
        self,
        config: AggregatorConfig,
        layers: Mapping[str, int],
        timesteps: Sequence[float],
    ):
        super().__init__()
        if not layers:
            raise ValueError("an aggregator needs at least one tapped layer")
        if not timesteps or len(set(timesteps)) != len(timesteps):
            raise ValueError(f"an aggregator needs distinct timesteps, got {list(timesteps)}")
        self.channels = dict(layers)
        self.taps = tuple(layers)
        self.timesteps = tuple(timesteps)
        self.width = config.width
        # A module's name must not contain the dot of a tap's.
        self.layers = nn.ModuleDict(
            {_key(tap): config.build(channels, timesteps) for tap, channels in layers.items()}
        )

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fuse ``maps`` (tap -> [B, T, C, F, H, W]) to tap -> [B, D, F, H, W].

        Raises:
            ValueError: the taps, T or C are not those that the module was built for.
        """
        self._check(maps)
        return {tap: self.layers[_key(tap)](maps[tap])[0] for tap in self.taps}

    def mixing_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mixing weights, tap -> [B, T, F, H, W]: positive, summing to 1 over T.

        Raises:
            ValueError: as :meth:`forward`, or a variant that makes no weighted sum (``concat``).
        """
        self._check(maps)
        found = {}
        for tap in self.taps:
            weights = self.layers[_key(tap)](maps[tap])[1]
            if weights is None:
                raise ValueError("this aggregator does not mix by weights: there are none to show")
            found[tap] = weights
        return found

    def parameter_counts(self) -> dict[str, int]:
        """Count the parameters of each tapped layer's aggregator."""
        return {
            tap: sum(p.numel() for p in self.layers[_key(tap)].parameters()) for tap in self.taps
        }

    def _check(self, maps: Mapping[str, Tensor]) -> None:
        if set(maps) != set(self.taps):
            raise ValueError(
                f"the aggregator was built for taps {', '.join(self.taps)}, got {', '.join(maps)}"
            )
        for tap, m in maps.items():
            expected = (len(self.timesteps), self.channels[tap])
            if m.ndim != 6 or m.shape[1:3] != expected:
                raise ValueError(
                    f"the aggregator expects [B, T={expected[0]}, C={expected[1]}, F, H, W]"
                    f" at tap {tap}, got {list(m.shape)}"
                )


def _key(tap: str) -> str:
    return tap.replace(".", "_")
