"""From a config to the things a dense run is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.assembly import RunSetup, build_seeded
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.config import Override
from mmdiff_video.datasets.pictures.card import ImageCard, load_image_card
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.views import DenseBatch
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.model import DenseNet, build_model, concepts_of
from mmdiff_video.features.dino import CachedDino, DinoFeatures, load_dino
from mmdiff_video.features.source import FeatureSource
from mmdiff_video.runs import resolve_run_config
from mmdiff_video.tasks import DataFacts, Task, build_task

Net = Callable[..., Tensor]
"""A :class:`DenseNet`, or what is called like one."""


@dataclass(frozen=True, kw_only=True)
class DenseSetup(RunSetup):
    """Everything of a run but the pictures.

    Attributes:
        card: of the data set.
        task: what is predicted.
        dino: reads DINO features, where the run has them.
        height, width: pixels of training views.
    """

    config: DenseConfig
    model: DenseNet
    card: ImageCard
    task: Task
    dino: DinoFeatures | CachedDino | None
    height: int
    width: int

    @property
    def unit(self) -> int:
        """Pixels that both sides of a picture must be a multiple of."""
        return self.backbone.geometry.space_stride * self.backbone.geometry.patch

    @property
    def identity(self) -> dict[str, Any]:
        dino = self.dino.dino if isinstance(self.dino, CachedDino) else self.dino
        return {
            **super().identity,
            "aggregation": self.config.aggregation,
            "dino_weights": dino and dino.fingerprint,
            "dino_layers": list(dino.layers) if dino else [],
            "data": self.config.data.name,
            "size": [self.height, self.width],
        }

    def read(
        self,
        model: Net,
        video: Tensor,
        keys: Sequence[str],
        captions: Sequence[str | None] | None,
    ) -> Tensor:
        """Run backbone and model on clips [B, 3, F, H, W]; the output [B, K, F', h, w]."""
        return self.decode(model, self.source(video, keys, captions), video)

    def decode(self, model: Net, features: DiTFeatures, video: Tensor) -> Tensor:
        """Run the model on what was read of a clip; the output [B, K, F', h, w]."""
        if self.dino is None:
            return model(features)
        grid = self.backbone.geometry.token_grid(*video.shape[2:])
        return model(features, self.dino(video, grid))

    def bytes_per_view(self) -> int:
        """Disk that one training view takes in the feature cache."""
        size = 1, self.height, self.width
        taps = self.source.bytes_per_sample(*size)
        if not isinstance(self.dino, CachedDino):
            return taps
        return taps + self.dino.entry_bytes(self.backbone.geometry.token_grid(*size))

    def output(self, model: Net, batch: DenseBatch) -> Tensor:
        """Run backbone and model on a batch; the output at the target's size, [B, K, h, w]."""
        output = self.read(model, batch.images[:, :, None], batch.keys, batch.captions)[:, :, 0]
        size = batch.target.shape[-2:]
        return F.interpolate(output.float(), size, mode="bilinear", align_corners=False)

    def loss(self, model: Net, batch: DenseBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compare a model's output with the truth: the loss of a batch, and the terms it sums."""
        terms = self.task.loss(self.output(model, batch), batch.target, batch.valid)
        return torch.stack(list(terms.values())).sum(), terms


def resolve_dense_config(file: str | None, overrides: Sequence[Override]) -> DenseConfig:
    """Build a run's config from a file (or the default for its backbone) and overrides.

    Raises:
        InputError: as :func:`mmdiff_video.runs.resolve_run_config`.
    """
    return resolve_run_config(DenseConfig, "dense", file, overrides)


def set_up_dense(
    config: DenseConfig, classes: Classes | None, backbone: Backbone | None = None
) -> DenseSetup:
    """Load the backbone and build the model.

    Args:
        config: gaps (None) are filled with the backbone's and the card's defaults.
        classes: of a segmentation; None for other tasks.
        backbone: one that is loaded already, when several runs share it.

    Raises:
        InputError: anything in the config that does not exist or fit.
    """
    card = load_image_card(config.data.name)
    if backbone is None:
        backbone = config.backbone.load()
    data, defaults = config.data, backbone.defaults
    height = defaults.height if data.height is None else data.height
    width = defaults.width if data.width is None else data.width
    facts = DataFacts(
        card=card,
        classes=classes,
        min_depth=card.min_depth if data.min_depth is None else data.min_depth,
        max_depth=card.max_depth if data.max_depth is None else data.max_depth,
        eval_crop=data.eval_crop or card.eval_crop,
    )
    config = replace(
        config,
        backbone=config.backbone.completed(backbone),
        cache=config.cache.absolute(),
        data=replace(
            data,
            train_split=data.train_split or card.train,
            eval_split=data.eval_split or card.held_out,
            height=height,
            width=width,
            min_depth=facts.min_depth,
            max_depth=facts.max_depth,
            eval_crop=facts.eval_crop,
        ),
    )
    backbone.geometry.check_size(1, height, width)
    task = build_task(config.task, config.loss, facts)
    source = FeatureSource(backbone, config, concepts_of(config, task))
    source.check_memory(1, height, width)
    dino = None
    if config.dino is not None:
        dino = load_dino(config.dino, backbone.device, config.dino_layers)
        if source.cache is not None:
            dino = CachedDino(dino, source.cache)
    model = build_seeded(
        lambda: build_model(
            config,
            backbone,
            outputs=task.outputs,
            head=config.head or task.head,
            beside=len(concepts_of(config, task)),
            dino_channels=dino.channels if dino else 0,
        ),
        config.train.seed,
    )
    model.to(backbone.device)
    return DenseSetup(
        config=config,
        backbone=backbone,
        source=source,
        model=model,
        card=card,
        task=task,
        dino=dino,
        height=height,
        width=width,
    )
