"""The settings every training run has, whatever it trains."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from mmdiff_video.checks import check_fields, check_seed
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.training.optimizers import OPTIMIZERS
from mmdiff_video.training.precision import PRECISIONS
from mmdiff_video.training.schedules import SCHEDULES


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. The part ``train`` of a run's config.

    The global batch of a step is ``batch_size x processes x grad_accumulation`` samples.

    Attributes:
        steps: optimiser steps in all.
        batch_size: samples in one forward of one process.
        grad_accumulation: forwards of each process per optimiser step.
        optimizer: a name in :data:`OPTIMIZERS`: ``adamw``, or ``muon`` (see :class:`Muon`).
        lr: learning rate at the end of the warm-up; parameter groups multiply it by their factor.
        weight_decay: decoupled decay of tensors with two or more axes (not of biases, norms and
            gates): every step takes off lr x weight_decay of a weight.
        warmup_steps: steps over which the rate rises linearly from ``lr / warmup_steps``.
        schedule: of the rate after the warm-up, a name in :data:`SCHEDULES`: ``constant``, or
            ``cosine`` (to 0 at the last step).
        grad_clip: largest norm of the whole gradient; 0 leaves it alone.
        ema_decay: decay of the averaged weights, which previews and evaluation use. Step n uses at
            most (1 + n) / (10 + n), so that a short run is not dominated by its random start.
        precision: ``bf16`` runs the model's forward under autocast, ``fp32`` in float32; ``auto``
            takes bf16 where it is measured to be faster.
        seed: fixes the order of the data, dropout, and whatever else is left to chance.
        checkpoint_every: steps between checkpoints; one is always written at the end.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        log_every: steps between lines of metrics, each the mean since the line before.
        preview_every: steps between preview pictures; 0 makes none.
        workers: processes that read data for each training process; 0 reads between the steps.
    """

    steps: int = 10_000
    batch_size: int = 1
    grad_accumulation: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.01
    warmup_steps: int = 100
    schedule: str = "constant"
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    precision: str = "auto"
    seed: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    preview_every: int = 500
    workers: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            "train.",
            steps=1,
            batch_size=1,
            grad_accumulation=1,
            checkpoint_every=1,
            keep_checkpoints=1,
            log_every=1,
            lr=0,
            weight_decay=0,
            warmup_steps=0,
            grad_clip=0,
            preview_every=0,
            workers=0,
        )
        check_seed("train.seed", self.seed)
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"train.ema_decay is {self.ema_decay}: it must be in [0, 1)")
        for name, valid in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in valid:
                raise unknown_name(f"train.{name}", getattr(self, name), valid)

    def make_optimizer(self, model: nn.Module, lr_factors: Mapping[str, float]) -> Optimizer:
        """Build the optimiser of a model; see :meth:`OptimizerConfig.build`."""
        kind = OPTIMIZERS[self.optimizer]
        settings = kind(lr=self.lr, weight_decay=self.weight_decay, precision=self.precision)
        return settings.build(model, lr_factors)

    def lr_scale(self, step: int) -> float:
        """Share of the base rate that step number ``step`` (from 1) trains with, in [0, 1]."""
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return SCHEDULES[self.schedule](min(done, 1.0))
