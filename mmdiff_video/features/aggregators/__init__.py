"""Fuse the activations of several denoising timesteps into one map per tapped layer.

The paper's module (Sec. 3.1, Eq. 2, App. F) is ``adaptive``. The other entries of
:data:`AGGREGATORS` are its ablations: normalisation, projection and refinement are shared, so that
they differ in the mixing over timesteps only. A new one is a file here and a line below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdiff_video.config import Variants
from mmdiff_video.errors import unknown_name
from mmdiff_video.features.aggregators.adaptive import AdaptiveConfig
from mmdiff_video.features.aggregators.base import AggregatorConfig, LayerAggregator
from mmdiff_video.features.aggregators.concat import ConcatConfig
from mmdiff_video.features.aggregators.mean import MeanConfig
from mmdiff_video.features.aggregators.single import SingleConfig
from mmdiff_video.features.aggregators.spatiotemporal import SpatioTemporalAggregator
from mmdiff_video.features.aggregators.static import StaticConfig

__all__ = [
    "AGGREGATORS",
    "AGGREGATOR_VARIANTS",
    "AdaptiveConfig",
    "AggregatorConfig",
    "LayerAggregator",
    "SpatioTemporalAggregator",
    "build_aggregator",
]

AGGREGATORS: dict[str, type[AggregatorConfig]] = {
    "adaptive": AdaptiveConfig,
    "static": StaticConfig,
    "concat": ConcatConfig,
    "mean": MeanConfig,
    "single": SingleConfig,
}
"""Name -> the config, which builds the module."""

AGGREGATOR_VARIANTS = Variants.of("aggregation", AGGREGATORS, "aggregator")
"""Of the field ``aggregator`` of a run's config; the key ``aggregation`` beside it names one."""


def build_aggregator(
    name: str = "adaptive",
    *,
    layers: Mapping[str, int],
    timesteps: Sequence[float],
    **settings: Any,
) -> SpatioTemporalAggregator:
    """Build an aggregator by name.

    Args:
        name: a key of :data:`AGGREGATORS`.
        layers: tap name -> channels C of its maps.
        timesteps: the set T in [0, 1] in the order of the maps; the smallest is the cleanest.
        settings: fields of the variant's config: ``width``, ``depth``...

    Raises:
        InputError: an unknown name (the message lists the valid ones), or a setting out of range.
        TypeError: a setting that the variant does not have.
        ValueError: no layers, or timesteps that are none or not distinct.
    """
    if name not in AGGREGATORS:
        raise unknown_name("aggregator", name, AGGREGATORS)
    return SpatioTemporalAggregator(AGGREGATORS[name](**settings), layers, timesteps)
