"""From a config to the things a run is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mmdiff_video.backbones import UNTRAINED_NOTICE
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.config import Override
from mmdiff_video.datasets.clips.card import DatasetCard, load_card
from mmdiff_video.errors import InputError
from mmdiff_video.features.source import FeatureSource
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.model import build_model
from mmdiff_video.runs import resolve_run_config
from recon.decoder import SceneSpace

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """Everything but the clips.

    Attributes:
        config: complete: no field is left to a default that may change.
        backbone: frozen.
        card: of the data set.
        source: reads features of clips.
        model: fresh weights, on the backbone's device.
    """

    config: NVSConfig
    backbone: Backbone
    card: DatasetCard
    source: FeatureSource
    model: nn.Module

    @property
    def frames(self) -> int:
        """Input frames of a clip."""
        return _set(self.config.data.frames)

    @property
    def height(self) -> int:
        """Pixel rows of input and target frames."""
        return _set(self.config.data.height)

    @property
    def width(self) -> int:
        """Pixel columns of input and target frames."""
        return _set(self.config.data.width)

    @property
    def space(self) -> SceneSpace:
        """Where Gaussians may lie and how large they may be."""
        return scene_space(self.card)

    @property
    def identity(self) -> dict[str, Any]:
        """What the model's input depends on; see :attr:`FeatureSource.identity`."""
        return {
            **self.source.identity,
            "aggregation": self.config.aggregation,
            "data": self.config.data.name,
            "size": [self.frames, self.height, self.width],
        }

    @property
    def notice(self) -> str:
        """What every table, picture and log line must say about the backbone; empty for nothing."""
        return UNTRAINED_NOTICE if self.backbone.untrained else ""


def resolve_config(file: str | None, overrides: Sequence[Override]) -> NVSConfig:
    """Build a run's config from a file (or the default for its backbone) and overrides.

    Raises:
        InputError: as :func:`mmdiff_video.runs.resolve_run_config`.
    """
    return resolve_run_config(NVSConfig, "3dgs", file, overrides)


def set_up(config: NVSConfig, backbone: Backbone | None = None) -> Setup:
    """Load the backbone and build the model.

    Args:
        config: gaps (None) are filled with the backbone's and the card's defaults.
        backbone: one that is loaded already, when several runs share it.

    Raises:
        InputError: anything in the config that does not exist or fit.
    """
    card = load_card(config.data.name)
    if backbone is None:
        backbone = config.backbone.load()
    config = _complete(config, backbone, card)
    data = config.data
    backbone.geometry.check_size(_set(data.frames), _set(data.height), _set(data.width))
    least, most = _set(data.span)
    card = replace(card, min_span=least, max_span=most)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            model = build_model(config, backbone, scene_space(card))
    except InputError:
        raise
    except ValueError as error:  # recon knows no InputError: strides that do not fit
        raise InputError(str(error)) from None
    source = FeatureSource(backbone, config)
    source.check_memory(_set(data.frames), _set(data.height), _set(data.width))
    model.to(backbone.device)
    return Setup(config, backbone, card, source, model)


def scene_space(card: DatasetCard) -> SceneSpace:
    """Read the decoder's limits off a dataset card."""
    return SceneSpace(near=card.near, far=card.far, scale_cap=card.scale_cap)


def _complete(config: NVSConfig, backbone: Backbone, card: DatasetCard) -> NVSConfig:
    defaults, data = backbone.defaults, config.data
    return replace(
        config,
        backbone=config.backbone.completed(backbone),
        cache=config.cache.absolute(),
        data=replace(
            data,
            eval_index=None if data.eval_index is None else str(Path(data.eval_index).resolve()),
            frames=defaults.frames if data.frames is None else data.frames,
            height=defaults.height if data.height is None else data.height,
            width=defaults.width if data.width is None else data.width,
            span=(card.min_span, card.max_span) if data.span is None else data.span,
        ),
    )


def _set(value: T | None) -> T:
    """Narrow a field that :func:`_complete` has filled."""
    assert value is not None
    return value
