"""What a run reports while it trains: metrics.jsonl, TensorBoard, progress on the terminal."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmdiff_video.files import write_text

_QUIET_SECONDS = 15.0
"""Least time between two lines of progress where there is no terminal to redraw."""


class Tracker:
    """Writes the metrics of one run; only the main process has one.

    Opening it drops the lines of metrics.jsonl after ``first_step``, so that a run that resumes
    from a checkpoint records no step twice.

    Args:
        run: the run folder.
        first_step: steps done before.
        steps: steps in all.
        notice: repeated in every line of metrics and progress; empty for nothing.
    """

    def __init__(self, run: Path, first_step: int, steps: int, notice: str):
        self.steps = steps
        self.notice = notice
        self.first_step = first_step
        self.started = time.monotonic()
        self.last_line = -math.inf
        self.bar = (
            tqdm(total=steps, initial=first_step, unit="step", dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )
        self.path = run / "metrics.jsonl"
        kept, broken = _lines_until(self.path, first_step)
        self.recorded = {frozenset(line) for line in kept if line["step"] == first_step}
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        if broken:
            self.say(f"{self.path}: lines that are damaged are left out from now on ({broken})")
        self.file = self.path.open("a", encoding="utf-8")
        self.board = self._open_board(run, first_step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the metrics of a step, and show its loss."""
        self.record(step, values)
        self._show(step, values)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write metrics of a step, unless they stood there when the file was opened.

        JSON has no NaN or infinity: they are written as null.
        """
        line: dict[str, Any] = {"step": step}
        line.update({k: v if math.isfinite(v) else None for k, v in values.items()})
        if self.notice:
            line["notice"] = self.notice
        if step == self.first_step and frozenset(line) in self.recorded:
            return
        with self._naming_the_file():
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        if self.board:
            self.board.add(values, step)

    def flush(self) -> None:
        """Wait until the metrics are on the disk."""
        with self._naming_the_file():
            os.fsync(self.file.fileno())

    def advance(self) -> None:
        """Move the progress bar by one step."""
        if self.bar is not None:
            self.bar.update()

    def say(self, text: str) -> None:
        """Print a sentence without breaking the progress bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Flush and close everything; further calls do nothing."""
        if self.bar is not None:
            self.bar.close()
        if self.board:
            self.board.close()
        with self._naming_the_file():
            self.file.close()

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Say which file, where the disk refuses: a write does not know."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        suffix = f"  ({self.notice})" if self.notice else ""
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {values.get('loss', math.nan):.4g}{suffix}")
            return
        now = time.monotonic()
        if now - self.last_line < _QUIET_SECONDS and step < self.steps:
            return
        self.last_line = now
        left = (now - self.started) / (step - self.first_step) * (self.steps - step)
        self.say(
            f"step {step}/{self.steps}  loss {values.get('loss', math.nan):.4g}"
            f"  left {timedelta(seconds=round(left))}{suffix}"
        )

    def _open_board(self, run: Path, first_step: int) -> Any:
        try:
            from mmdiff_video.training.board import Board
        except ImportError:
            self.say(
                "TensorBoard is not installed, so metrics go to metrics.jsonl only"
                " (pip install 'mmdiff-video[tensorboard]')"
            )
            return None
        return Board(run / "tensorboard", first_step)


def _lines_until(path: Path, step: int) -> tuple[list[dict[str, Any]], int]:
    """Read the lines of a metrics file up to a step, and count those that cannot be read.

    The last line may be one that a killed process or a full disk cut off: it is not counted.
    """
    if not path.exists():
        return [], 0
    kept, broken = [], 0
    for text in path.read_bytes().splitlines(keepends=True):
        try:
            line = json.loads(text)
            if line["step"] <= step and text.endswith(b"\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            broken += text.endswith(b"\n")
    return kept, broken
