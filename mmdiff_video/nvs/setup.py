"""From a config to the things a run is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mmdiff_video.assembly import RunSetup, build_seeded
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.config import Override
from mmdiff_video.datasets.clips.card import DatasetCard, load_card
from mmdiff_video.datasets.clips.views import NVSBatch
from mmdiff_video.errors import InputError
from mmdiff_video.features.source import FeatureSource
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.model import build_model
from mmdiff_video.runs import resolve_run_config
from recon.decoder import SceneSpace
from recon.gaussians import Gaussians


@dataclass(frozen=True, kw_only=True)
class Setup(RunSetup):
    """Everything of a run but the clips.

    Attributes:
        card: of the data set; its spans are the config's.
        space: where Gaussians may lie and how large they may be.
        frames: input frames of a clip.
        height, width: pixels of input and target frames.
    """

    config: NVSConfig
    card: DatasetCard
    space: SceneSpace
    frames: int
    height: int
    width: int

    @property
    def identity(self) -> dict[str, Any]:
        return {
            **super().identity,
            "aggregation": self.config.aggregation,
            "data": self.config.data.name,
            "size": [self.frames, self.height, self.width],
        }

    def reconstruct(self, model: nn.Module, batch: NVSBatch) -> Gaussians:
        """Read the features of a batch and decode them.

        Args:
            model: made by :func:`mmdiff_video.nvs.model.build_model` from this config.
            batch: on the backbone's device.

        Returns:
            Gaussians with batch dimension B, in each sample's world.
        """
        features = self.source(batch.video, batch.keys, batch.captions)
        height, width = batch.video.shape[-2:]
        return model(features, batch.input_viewmats, batch.input_Ks, height, width)


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
    data, defaults = config.data, backbone.defaults
    frames = defaults.frames if data.frames is None else data.frames
    height = defaults.height if data.height is None else data.height
    width = defaults.width if data.width is None else data.width
    least, most = (card.min_span, card.max_span) if data.span is None else data.span
    index = None if data.eval_index is None else str(Path(data.eval_index).resolve())
    config = replace(
        config,
        backbone=config.backbone.completed(backbone),
        cache=config.cache.absolute(),
        data=replace(
            data,
            frames=frames,
            height=height,
            width=width,
            span=(least, most),
            eval_index=index,
        ),
    )
    backbone.geometry.check_size(frames, height, width)
    card = replace(card, min_span=least, max_span=most)
    space = SceneSpace(near=card.near, far=card.far, scale_cap=card.scale_cap)
    try:
        model = build_seeded(lambda: build_model(config, backbone, space), config.train.seed)
    except InputError:
        raise
    except ValueError as error:  # recon knows no InputError: strides that do not fit
        raise InputError(str(error)) from None
    source = FeatureSource(backbone, config)
    source.check_memory(frames, height, width)
    model.to(backbone.device)
    return Setup(
        config=config,
        backbone=backbone,
        source=source,
        model=model,
        card=card,
        space=space,
        frames=frames,
        height=height,
        width=width,
    )
