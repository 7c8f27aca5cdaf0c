"""The fit of a scene as a job: progress, previews, and a state that a kill leaves whole."""

import math
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors
from mmdiff_video.training.signals import stop_signals
from recon.fit import Fit

STATE = "fit.safetensors"
"""Of an unfinished fit; it goes when the scene is done."""

_SAVE_SECONDS = 20.0
_PREVIEWS = 8
_LINE_SECONDS = 15.0
"""Least time between two lines of progress where there is no terminal to redraw."""

_KEPT = 0.95
"""Of the running mean of PSNR, at each step."""


class Stopped(Exception):
    """Somebody asked the fit to end before it was done; its state is on the disk."""


def run_fit(
    fit: Fit,
    folder: Path,
    *,
    seconds: float | None,
    resume: bool,
    identity: str,
    preview: Callable[[int], None] = lambda step: None,
) -> float:
    """Run a fit to its end.

    Args:
        fit: at its start.
        folder: of the scene; its state is kept there.
        seconds: end after so much time instead of ``fit.config.steps``.
        resume: go on from the state in ``folder``, if there is one.
        identity: what the fit is of; the state of another is refused.
        preview: called with the number of steps done, some times in all.

    Returns:
        seconds that the fit took, those before a stop included.

    Raises:
        InputError: the state is of another fit, or damaged.
        Stopped: SIGINT or SIGTERM came; the state is saved.
    """
    state = folder / STATE
    before = _restore(fit, state, identity) if resume and state.exists() else 0.0
    began = saved = time.monotonic()
    with stop_signals() as stop, _Bar(fit, seconds, before) as bar:
        shown = math.floor(_done(fit, seconds, before) * _PREVIEWS)
        while (done := _done(fit, seconds, before + time.monotonic() - began)) < 1:
            logs = fit.run(progress=done)
            spent = before + time.monotonic() - began
            bar.show(logs["psnr"], spent)
            done = _done(fit, seconds, spent)
            if math.floor(done * _PREVIEWS) > shown and done < 1:
                shown = math.floor(done * _PREVIEWS)
                preview(fit.step)
            if stop.signal or time.monotonic() - saved > _SAVE_SECONDS:
                _save(fit, state, identity, spent)
                saved = time.monotonic()
            if stop.signal:
                raise Stopped(f"stopped by {stop.signal} after {fit.step} steps")
    spent = before + time.monotonic() - began
    _save(fit, state, identity, spent)
    return spent


def _done(fit: Fit, seconds: float | None, spent: float) -> float:
    return fit.step / fit.config.steps if seconds is None else spent / seconds


def _save(fit: Fit, state: Path, identity: str, spent: float) -> None:
    with write_aside(state) as aside:
        save_tensors(aside, fit.state(), {"identity": identity, "seconds": repr(spent)})


def _restore(fit: Fit, state: Path, identity: str) -> float:
    try:
        tensors, facts = load_tensors(state, checksum_required=True)
    except DamagedError as error:
        raise InputError(f"{error}: delete it to begin the fit anew") from None
    if facts.get("identity") != identity:
        raise InputError(
            f"'{state}' is of a fit with other settings or pictures: give the settings that it"
            " began with, or choose another folder"
        )
    _check(tensors, fit, state)
    return float(facts["seconds"])


def _check(tensors: dict[str, Tensor], fit: Fit, state: Path) -> None:
    try:
        fit.restore(tensors)
    except ValueError as error:
        raise InputError(f"'{state}': {error}") from None


class _Bar:
    """Progress with the time that is left and the PSNR of the fitted pictures."""

    def __init__(self, fit: Fit, seconds: float | None, before: float):
        self.fit = fit
        self.seconds = seconds
        self.first = fit.step
        self.psnr = math.nan
        self.last_line = time.monotonic()
        self.before = before
        self.bar = None
        if sys.stderr.isatty():
            total = fit.config.steps if seconds is None else round(seconds)
            done = fit.step if seconds is None else before
            unit = "step" if seconds is None else "s"
            self.bar = tqdm(
                total=total, initial=done, unit=unit, desc="fit", dynamic_ncols=True
            )  # fmt: skip

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, psnr: float, spent: float) -> None:
        """Tell of a step: PSNR of its pictures in dB, seconds that the fit took so far."""
        if math.isfinite(psnr):
            known = self.psnr if math.isfinite(self.psnr) else psnr
            self.psnr = _KEPT * known + (1 - _KEPT) * psnr
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.psnr:.1f} dB", refresh=False)
            self.bar.update((self.fit.step if self.seconds is None else spent) - self.bar.n)
        elif time.monotonic() - self.last_line > _LINE_SECONDS:
            self.last_line = time.monotonic()
            left = self._left(spent)
            tqdm.write(
                f"step {self.fit.step}  {self.psnr:.1f} dB  left {timedelta(seconds=round(left))}",
                file=sys.stderr,
            )

    def _left(self, spent: float) -> float:
        if self.seconds is not None:
            return max(0.0, self.seconds - spent)
        pace = (spent - self.before) / max(1, self.fit.step - self.first)
        return pace * (self.fit.config.steps - self.fit.step)
