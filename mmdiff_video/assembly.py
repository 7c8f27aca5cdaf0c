"""How every run is trained, whatever it trains: the parts in, a run folder out."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mmdiff_video.backbones import UNTRAINED_NOTICE, Backbone
from mmdiff_video.config import record_config
from mmdiff_video.errors import InputError
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.source import FeatureSource, ReadsFeatures
from mmdiff_video.process import machine_memory, processes, writing_together
from mmdiff_video.runs import CONFIG, RunFacts
from mmdiff_video.skipped import Skipped
from mmdiff_video.tables import format_bytes, format_count, format_table
from mmdiff_video.training import TrainConfig, Trainer, TrainingSet, TrainResult, load_model
from mmdiff_video.training.loop import LossFn, Preview
from mmdiff_video.version import __version__

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


class RunConfig(ReadsFeatures, Protocol):
    """What the configs of all kinds of run have."""

    @property
    def train(self) -> TrainConfig: ...


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """Everything of a run but its samples; a kind of run has a subclass.

    Attributes:
        config: complete: no field is left to a default that may change.
        backbone: frozen.
        source: reads its features.
        model: what is trained, with fresh weights, on the backbone's device.
    """

    config: RunConfig
    backbone: Backbone
    source: FeatureSource
    model: nn.Module

    @property
    def identity(self) -> dict[str, Any]:
        """What the model's input depends on; see :attr:`FeatureSource.identity`."""
        return self.source.identity

    @property
    def notice(self) -> str:
        """What every table, picture and log line must say about the backbone; empty for nothing."""
        return UNTRAINED_NOTICE if self.backbone.untrained else ""


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Modules built inside draw their weights from ``seed``; torch's own rng stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_seeded(make: Callable[[], Model], seed: int) -> Model:
    """Build a model that this machine has the memory for.

    Args:
        make: builds it; called twice, first without memory for weights.
        seed: of the weights, as in :func:`seeded_weights`.

    Raises:
        InputError: the weights are larger than this machine's memory; or as ``make``.
    """
    with torch.device("meta"), _counted_weights():
        make()
    with seeded_weights(seed):
        return make()


@contextmanager
def _counted_weights() -> Iterator[None]:
    """Refuse the modules that are built inside as soon as they are larger than the memory."""
    memory, size = machine_memory(), 0

    def count(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        nonlocal size
        size += 0 if weight is None else weight.nbytes
        if size > memory:
            raise InputError(
                f"the model's weights take more than the {format_bytes(memory)} of this machine:"
                " set smaller widths or depths"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if "overflow" not in str(error).lower():
            raise
        raise InputError(
            "the model's weights are too many to count: set smaller widths or depths"
        ) from None
    finally:
        hook.remove()


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """How a run will use a feature cache.

    Attributes:
        cache: where the features are kept.
        bytes_per_sample: on disk.
        samples: how many different ones there are, in one epoch or (``fixed``) in all.
        fixed: whether every epoch reads the same ones.
        fixed_by: the key of the config that makes it so.
    """

    cache: FeatureCache
    bytes_per_sample: int
    samples: int
    fixed: bool
    fixed_by: str

    def __str__(self) -> str:
        whole = format_bytes(self.bytes_per_sample * self.samples)
        varying = f" per epoch, with other samples each epoch: set {self.fixed_by} to make it serve"
        return (
            f"feature cache in {self.cache.root}: {format_bytes(self.bytes_per_sample)} a sample,"
            f" up to {whole} of a budget of {format_bytes(self.cache.budget)}"
            + ("" if self.fixed else varying)
        )


@dataclass(frozen=True, kw_only=True)
class Training:
    """The parts of a training.

    Attributes:
        kind: a key of :data:`KINDS`.
        setup: of the run; its config is written into the run folder.
        model: what is trained: that of the setup, or the one that several tasks share.
        samples, collate, loss, preview, lr_factors: see :class:`Trainer`.
        parameters: see :class:`RunFacts`; names that begin with a blank are shares of the part
            above them.
        number: how many clips or pictures the samples are made from.
        skipped, note, details: see :class:`RunFacts`.
        summary: lines on what is trained and on what, logged before the first step.
        caches: of features; none where the run has none.
        finish: called with the number of steps when training has ended; the model then has its
            averaged weights.
    """

    kind: str
    setup: RunSetup
    model: nn.Module
    samples: TrainingSet
    collate: Callable[[list[Any]], Any]
    loss: LossFn
    preview: Preview
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, int]
    number: int
    skipped: Sequence[Skipped] = ()
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    summary: Sequence[str] = ()
    caches: Sequence[CacheUse] = ()
    finish: Callable[[int], None] | None = None

    def facts(self) -> RunFacts:
        """What ``run.json`` will say."""
        backbone = self.setup.backbone
        return RunFacts(
            kind=self.kind,
            version=__version__,
            backbone=backbone.name,
            backbone_fingerprint=backbone.fingerprint,
            untrained_backbone=backbone.untrained,
            parameters={name.strip(): count for name, count in self.parameters.items()},
            samples=self.number,
            skipped=self.skipped,
            note=self.note,
            details=self.details,
        )

    def describe(self) -> str:
        """Say before the run what is trained, on what, and what it will take."""
        rows = [[name, format_count(count)] for name, count in self.parameters.items()]
        lines = [
            self.setup.notice,
            *self.summary,
            format_table(["trainable parameters", ""], rows),
            self.note,
            *map(str, self.caches),
        ]
        return "\n".join(line for line in lines if line)


def train_run(training: Training, out: Path, *, resume: bool = False) -> TrainResult:
    """Train, and leave a run folder that :func:`mmdiff_video.runs.open_run` opens.

    Args:
        training: its parts.
        out: the run folder.
        resume: go on from its newest checkpoint.

    Raises:
        InputError: as :class:`Trainer` and its :meth:`~Trainer.fit`; or another program trains
            there.
    """
    with writing_together(out, "training"):
        return _train_alone(training, out, resume)


def _train_alone(training: Training, out: Path, resume: bool) -> TrainResult:
    setup = training.setup
    trainer = Trainer(
        out,
        training.model,
        training.samples,
        training.loss,
        setup.config.train,
        collate=training.collate,
        preview=training.preview,
        lr_factors=training.lr_factors,
        identity=setup.identity,
        notice=setup.notice,
        resume=resume,
    )
    if processes().is_main_process:
        record_config(setup.config, out / CONFIG)
        training.facts().save(out)
        logger.info("%s", training.describe())
    result = trainer.fit()
    if processes().is_main_process:
        for use in training.caches:
            logger.info("feature cache: %s", use.cache.stats)
        if training.finish is not None:
            training.finish(load_model(out, training.model, ema=True))
    return result
