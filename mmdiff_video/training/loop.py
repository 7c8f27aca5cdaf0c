"""The training loop that every task shares: one process or many, CPU or GPU, resumable.

What a step computes is a function of the weights, the moments, the seed, the step and the process:
the order of the data comes from (seed, step), and every random generator is seeded anew from
(seed, step, process) before each step. So resuming needs no random states, and previews or
evaluations between steps change nothing.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, gather_object, send_to_device, set_seed
from torch import Tensor, nn
from torch.utils.data import default_collate

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside, write_json
from mmdiff_video.process import processes, this_device
from mmdiff_video.seeds import stable_seed
from mmdiff_video.skipped import Skipped
from mmdiff_video.training import checkpoint as ckpt
from mmdiff_video.training.config import TrainConfig
from mmdiff_video.training.data import Share, Shares, TrainingSet, share_loader
from mmdiff_video.training.ema import make_ema, update_ema
from mmdiff_video.training.gradients import clip_gradients, sum_gradients
from mmdiff_video.training.means import Means
from mmdiff_video.training.optimizers import set_lr
from mmdiff_video.training.precision import bf16_forward, settle_precision
from mmdiff_video.training.resuming import (
    SKIPPED,
    newest_checkpoint,
    preview_path,
    refuse_fewer_steps,
    refuse_other_run,
)
from mmdiff_video.training.signals import StopRequest, stop_signals
from mmdiff_video.training.track import Tracker

LossFn = Callable[[nn.Module, Any], tuple[Tensor, Mapping[str, float | Tensor]]]
Preview = Callable[[nn.Module, int, Path], Mapping[str, float] | None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done in all.
        finished: False when a signal ended it early.
        last: the newest line of metrics: the means of ``loss`` and of what the loss function
            logged, ``lr``, ``epoch``, and ``skipped``, the distinct samples given up so far.
        skipped: key -> reason of every sample that could not be used.
    """

    step: int
    finished: bool
    last: Mapping[str, float]
    skipped: Mapping[str, str]


@dataclass
class _Tally:
    """What one process did in one step."""

    means: Means = field(default_factory=Means)
    count: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    stop: str | None = None


class Trainer:
    """Trains a model; construct on every process, then call :meth:`fit` once.

    In the run folder: ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/``, ``previews/`` and
    ``skipped.json``.

    Args:
        run: the run folder; made when it is missing.
        model: what is trained, on any device; it is moved to this process's. Process 0's weights
            are the ones that count.
        samples: see :class:`TrainingSet`.
        loss_fn: ``(model, batch) -> (loss, logs)``: the loss is a scalar, the mean over the batch's
            samples; logs are scalars, likewise means. The batch is on the device if it is made of
            tensors, tuples, lists and dicts, or has a ``to`` method.
        config: see :class:`TrainConfig`.
        collate: makes a batch of a list of usable samples.
        preview: ``(averaged model, step, path) -> metrics`` writes a PNG to ``path``, or nothing;
            what it returns, such as a validation loss, goes to metrics.jsonl too.
        lr_factors: start of a parameter's name -> factor on the learning rate.
        identity: what must not change over the life of the run, as plain JSON values, besides
            seed, global batch, number of samples and optimizer.
        notice: repeated in every line of metrics and progress, such as that the backbone is
            untrained; empty for nothing.
        resume: go on from the newest checkpoint of the run folder.

    Raises:
        InputError: the run folder holds checkpoints and ``resume`` is False; or there is nothing
            to resume; or its checkpoint comes from another architecture, seed, global batch, set of
            samples or optimizer, or has another ``identity``.
    """

    def __init__(
        self,
        run: Path,
        model: nn.Module,
        samples: TrainingSet,
        loss_fn: LossFn,
        config: TrainConfig,
        *,
        collate: Callable[[list[Any]], Any] = default_collate,
        preview: Preview | None = None,
        lr_factors: Mapping[str, float] | None = None,
        identity: Mapping[str, Any] | None = None,
        notice: str = "",
        resume: bool = False,
    ):
        if len(samples) == 0:
            raise InputError("there are no samples to train on")
        self.run, self.config = run, config
        self.samples, self.collate = samples, collate
        self.loss_fn, self.preview, self.notice = loss_fn, preview, notice
        self.world = processes()
        self.device = this_device()
        self.global_batch = config.batch_size * config.grad_accumulation * self.world.num_processes
        self.identity: dict[str, Any] = {
            **(identity or {}),
            "seed": config.seed,
            "global_batch": self.global_batch,  # samples per step
            "number_of_samples": len(samples),
            "optimizer": config.optimizer,  # has a state of its own kind
        }

        self.model = model.to(self.device)
        broadcast(list(self.model.state_dict().values()))
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

        newest = newest_checkpoint(run, resume=resume)
        began = ckpt.load_state(newest).get("precision") if newest else None
        self.precision = settle_precision(config.precision, self.device, began)
        settled = replace(config, precision=self.precision)
        self.optimizer = settled.make_optimizer(self.model, lr_factors or {})

        self.step = 0
        self.usable = 0
        self.skipped: dict[str, str] = {}
        self.window = Means()
        self.last: dict[str, float] = {}
        self.ema = make_ema(self.model)
        if newest is not None:
            self._restore(newest)

    def fit(self) -> TrainResult:
        """Train to the last step, or until SIGINT or SIGTERM; both ways end with a checkpoint.

        Raises:
            InputError: the loss or its gradient is not finite, or no sample is usable.
        """
        with ExitStack() as stack:
            request = stack.enter_context(stop_signals())
            tracker = None
            if self.world.is_main_process:
                tracker = Tracker(self.run, self.step, self.config.steps, self.notice)
                stack.callback(tracker.close)
                stack.callback(self._write_skipped)
            if self.precision == "bf16":
                stack.enter_context(bf16_forward(self.model, self.device))
            shares = self._shares()
            stop = None
            if tracker is not None:
                self._make_up_for_preview(tracker)
            self.window_opened = time.monotonic()
            while self.step < self.config.steps and stop is None:
                stop = self._train_step(shares, request)
                if log := self._due(self.config.log_every):
                    self._close_window()
                if tracker is not None:
                    tracker.advance()
                    if log:
                        tracker.log(self.step, self.last)
                    if stop or self._due(self.config.checkpoint_every):
                        tracker.flush()  # a line is never younger than the checkpoint after it
                        self._save()
                    if self.preview and self._due(self.config.preview_every):
                        self._draw(self.preview, tracker)
            if tracker is not None:
                tracker.say(self._closing_line(stop))
            self.world.wait_for_everyone()
        return TrainResult(self.step, self.step >= self.config.steps, self.last, dict(self.skipped))

    def _restore(self, checkpoint: Path) -> None:
        state = ckpt.load_state(checkpoint)
        refuse_other_run(checkpoint, state, self.identity)
        refuse_fewer_steps(self.run, state["step"], self.config.steps)
        ckpt.load_weights(checkpoint, self.model, ema=False)
        ckpt.load_weights(checkpoint, self.ema.module, ema=True)
        ckpt.load_moments(checkpoint, self.optimizer)
        self.ema.n_averaged.fill_(state["step"])  # 0 would make its next update a copy
        self.step = state["step"]
        try:
            self.usable, self.skipped = int(state["usable"]), dict(state["skipped"])
            self.window = Means(state["window"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ckpt.damaged(checkpoint, f"state.json: {error!r}") from None

    def _shares(self) -> Iterator[Share]:
        shares = Shares(
            size=len(self.samples),
            batch_size=self.config.batch_size,
            rounds=self.config.grad_accumulation,
            processes=self.world.num_processes,
            process=self.world.process_index,
            seed=self.config.seed,
            first=self.step,
            steps=self.config.steps,
        )
        return iter(share_loader(self.samples, shares, self.collate, self.config.workers))

    def _train_step(self, shares: Iterator[Share], request: StopRequest) -> str | None:
        """Do one optimiser step; returns the signal that asked any process to end."""
        step = self.step + 1
        _seed_everything(self.config.seed, step, self.world.process_index)
        self.model.train()
        self.optimizer.zero_grad()
        tally = _Tally()
        for _ in range(self.config.grad_accumulation):
            share = next(shares)
            tally.skipped += share.skipped
            if share.count:
                loss, logs = self.loss_fn(self.model, send_to_device(share.batch, self.device))
                # every sample weighs the same, however many of them a process could use
                (loss * (share.count / self.global_batch)).backward()
                tally.means.add({"loss": loss, **logs}, share.count)
                tally.count += share.count
        tally.stop = request.signal
        tally = _merge(gather_object([tally]))
        if tally.count:
            self._update(step, tally)
        self.step = step
        self.usable += tally.count
        self.skipped.update((s.key, s.reason) for s in tally.skipped)
        self.window.merge(tally.means)
        seen = step * self.global_batch
        if not self.usable and (seen >= len(self.samples) or step == self.config.steps):
            key, reason = next(iter(self.skipped.items()))
            raise InputError(
                f"none of the {min(seen, len(self.samples))} samples tried can be used;"
                f" {key}: {reason} (the others are in {self.run / SKIPPED})"
            )
        return tally.stop

    def _update(self, step: int, tally: _Tally) -> None:
        """Move the weights along the gradients that the processes have gathered."""
        loss = tally.means.means()["loss"]
        self._refuse_non_finite("the loss", loss, step)
        if self.world.num_processes > 1:
            sum_gradients(self.parameters)
        if tally.count != self.global_batch:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad *= self.global_batch / tally.count
        norm = clip_gradients(self.parameters, self.config.grad_clip)
        self._refuse_non_finite("the gradient's norm", norm, step)
        tally.means.add({"grad_norm": norm}, tally.count)
        set_lr(self.optimizer, self.config.lr * self.config.lr_scale(step))
        self.optimizer.step()
        update_ema(self.ema, self.model, self.config.ema_decay, step)

    def _refuse_non_finite(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise InputError(
                f"{what} is {value} at step {step} of {self.run}, and the run ends here; its"
                " checkpoints are intact: resume with a lower lr, or check that step's samples"
            )

    def _close_window(self) -> None:
        """Turn what was gathered since the last line of metrics into the next one."""
        now = time.monotonic()
        means = self.window.means()
        samples = self.window.sums["loss"][1] if means else 0
        self.last = {
            **means,
            "lr": self.config.lr * self.config.lr_scale(self.step),
            "epoch": self.step * self.global_batch / len(self.samples),
            "skipped": len(self.skipped),
            "samples_per_second": samples / (now - self.window_opened),
        }
        self.window, self.window_opened = Means(), now

    def _due(self, every: int) -> bool:
        """Whether something is due after this step: every so many (0: never), and at the end."""
        return every > 0 and (self.step % every == 0 or self.step == self.config.steps)

    def _save(self) -> None:
        ckpt.save_checkpoint(
            self.run,
            self.step,
            self.model,
            self.ema.module,
            self.optimizer,
            {
                **self.identity,
                "precision": self.precision,
                "usable": self.usable,
                "skipped": self.skipped,
                "window": self.window.sums,
            },
            self.config.keep_checkpoints,
        )

    def _make_up_for_preview(self, tracker: Tracker) -> None:
        """Draw the preview that a killed process owes: it comes after the step's checkpoint."""
        owed = self.step > 0 and self._due(self.config.preview_every)
        if self.preview and owed and not preview_path(self.run, self.step).exists():
            self._draw(self.preview, tracker)

    def _draw(self, preview: Preview, tracker: Tracker) -> None:
        _seed_everything(self.config.seed, self.step, 0)
        # the picture appears last: with it, the metrics are there too
        with write_aside(preview_path(self.run, self.step), optional=True) as aside:
            with torch.no_grad():
                values = preview(self.ema.module, self.step, aside)
            if values:
                tracker.record(self.step, values)
                tracker.flush()

    def _write_skipped(self) -> None:
        skipped = [{"key": k, "reason": r} for k, r in sorted(self.skipped.items())]
        write_json(
            self.run / SKIPPED,
            {"step": self.step, "samples": len(self.samples), "skipped": skipped},
        )

    def _closing_line(self, stop: str | None) -> str:
        broken = (
            f"; {len(self.skipped)} of {len(self.samples)} samples could not be used, see"
            f" {self.run / SKIPPED}"
            if self.skipped
            else ""
        )
        if self.step == self.config.steps:
            return f"trained {self.step} steps{broken}"
        return (
            f"{stop}: stopped after step {self.step} of {self.config.steps}, with a checkpoint;"
            f" go on with --resume{broken}"
        )


def _merge(tallies: Sequence[_Tally]) -> _Tally:
    """Add up what all processes did in a step, in the order of the processes."""
    whole = _Tally()
    for tally in tallies:
        whole.means.merge(tally.means)
        whole.count += tally.count
        whole.skipped += tally.skipped
        whole.stop = whole.stop or tally.stop
    return whole


def _seed_everything(*parts: int) -> None:
    set_seed(stable_seed("step", *parts) % 2**32)  # Python's, NumPy's and torch's generators
