"""The settings every training run has, whatever it trains."""

import math
from dataclasses import dataclass

from mmdiff_video.checks import check_fields, check_seed
from mmdiff_video.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. A node of a task's config.

    The global batch of a step is ``batch_size x processes x grad_accumulation`` samples.

    Attributes:
        steps: optimiser steps in all.
        batch_size: samples in one forward of one process.
        grad_accumulation: forwards of each process per optimiser step.
        optimizer: ``adamw``, or ``muon``: see :class:`Muon`.
        lr: learning rate at the end of the warm-up; parameter groups multiply it by their factor.
        weight_decay: AdamW's, on tensors with two or more axes (not on biases, norms and gates).
        warmup_steps: steps over which the rate rises linearly from ``lr / warmup_steps``.
        schedule: after the warm-up, ``constant`` or ``cosine`` (to 0 at the last step).
        grad_clip: largest norm of the whole gradient; 0 leaves it alone.
        ema_decay: decay of the averaged weights, which previews and evaluation use. Step n uses at
            most (1 + n) / (10 + n), so that a short run is not dominated by its random start.
        precision: ``bf16`` runs the model's forward under autocast, ``fp32`` in float32; ``auto``
            takes bf16 where it is measured to be faster.
        seed: fixes the order of the data, dropout, and whatever else is drawn.
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
            ("optimizer", ("adamw", "muon")),
            ("schedule", ("constant", "cosine")),
            ("precision", ("auto", "bf16", "fp32")),
        ):
            if getattr(self, name) not in valid:
                raise InputError(
                    f"train.{name} is '{getattr(self, name)}': valid: {', '.join(valid)}"
                )

    def lr_scale(self, step: int) -> float:
        """Share of the base rate that step number ``step`` (from 1) trains with."""
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
