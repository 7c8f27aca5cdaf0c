"""Everything a dense run is made of, as one typed config."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from mmdiff_video.checks import check_fields, check_positive, check_seed
from mmdiff_video.datasets.pictures.card import EVAL_CROPS
from mmdiff_video.datasets.pictures.views import AugmentConfig
from mmdiff_video.dense.heads import DeepLabConfig, DPTConfig
from mmdiff_video.errors import InputError
from mmdiff_video.features.aggregators import (
    AGGREGATOR_VARIANTS,
    AdaptiveConfig,
    AggregatorConfig,
)
from mmdiff_video.features.source import BackboneConfig, CacheConfig
from mmdiff_video.tasks import LOSS_VARIANTS, TASKS, LossConfig, loss_of
from mmdiff_video.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class DenseDataConfig:
    """Which pictures, and how they are seen. None means the backbone's or the card's default.

    Attributes:
        name: a card of labelled pictures (``mmdiff-video data list``).
        root: the folder the data lies in.
        train_split, eval_split: names of splits.
        height, width: pixels of training views; scored pictures are resized whole to cover them.
        views: draw this many fixed views of each picture instead of a fresh one each epoch, so that
            the feature cache can serve them.
        augment: how views differ from the picture.
        max_images: train on a seeded choice of this many pictures.
        max_eval_images: score a seeded choice of this many.
        split_seed: the seed of both choices.
        min_depth, max_depth: metres; depth outside them is neither trained on nor scored.
        eval_crop: ``eigen`` or ``none``: where depth is scored.
    """

    name: str = "rooms"
    root: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    height: int | None = None
    width: int | None = None
    views: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    max_images: int | None = None
    max_eval_images: int | None = None
    split_seed: int = 0
    min_depth: float | None = None
    max_depth: float | None = None
    eval_crop: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "data.", views=1, max_images=1, max_eval_images=1)
        check_seed("data.split_seed", self.split_seed)
        if self.eval_crop is not None and self.eval_crop not in EVAL_CROPS:
            raise InputError(
                f"data.eval_crop is one of {', '.join(EVAL_CROPS)}, not '{self.eval_crop}'"
            )
        for name in ("min_depth", "max_depth"):
            if getattr(self, name) is not None:
                check_positive(f"data.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """A run of one dense task, or of several in one decoder.

    Attributes:
        task: a key of :data:`mmdiff_video.tasks.TASKS`, or several joined
            (:func:`mmdiff_video.tasks.join_tasks`).
        input: what the head reads: ``features`` (aggregated taps) or ``latent`` (the VAE's latent,
            the baseline).
        aggregation: how taps are fused over timesteps: ``adaptive`` (the paper's), ``static``,
            ``mean``, ``concat`` or ``single``.
        head: ``deeplab`` or ``dpt``; None: the task's own.
        concept_maps: read concept maps too, and give them to the head beside each fused map.
        concepts: their words; None: the task's own. ``["<prompt>"]``: instead, the share of
            attention that goes to the prompt's words (the paper's cross-attention ablation).
        dino: also read DINOv3 features, projected to the aggregator's width beside each fused map:
            ``dinov3-b``, ``dinov3-s``, ``dinov3-l``, a hub id or a folder; None: do not.
        dino_layers: its blocks, counted from 0; None: 2 and 11 in a model of 12, those at the same
            depth in others.
        head_lr_factor: the head's share of the learning rate (the paper: half the base rate).
        backbone, aggregator, deeplab, dpt, data, cache, loss, train: see their classes.
    """

    task: str = "seg"
    input: str = "features"
    aggregation: str = "adaptive"
    head: str | None = None
    concept_maps: bool = False
    concepts: tuple[str, ...] | None = None
    dino: str | None = None
    dino_layers: tuple[int, ...] | None = None
    head_lr_factor: float = 0.5
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name="nano-flux"))
    aggregator: AggregatorConfig = field(
        default_factory=AdaptiveConfig, metadata=AGGREGATOR_VARIANTS.metadata
    )
    deeplab: DeepLabConfig = field(default_factory=DeepLabConfig)
    dpt: DPTConfig = field(default_factory=DPTConfig)
    data: DenseDataConfig = field(default_factory=DenseDataConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    loss: LossConfig = field(default_factory=TASKS["seg"].losses, metadata=LOSS_VARIANTS.metadata)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.input not in ("features", "latent"):
            raise InputError(f"input is 'features' or 'latent', not '{self.input}'")
        if self.input == "latent" and self.concept_maps:
            raise InputError("concept_maps come from the transformer: they need input=features")
        check_positive("head_lr_factor", self.head_lr_factor)

    def of_task(self, task: str, **changes: Any) -> Self:
        """The config of one task alone, with the keys of its loss that this config has.

        Args:
            task: its name.
            changes: other fields.

        Raises:
            InputError: an unknown task, or a loss whose every weight is 0.
        """
        return replace(self, task=task, loss=loss_of(task, self.loss), **changes)
