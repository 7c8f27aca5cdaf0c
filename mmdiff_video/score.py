"""``mmdiff-video eval``: score a run of any kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdiff_video.dense.run import score_dense
from mmdiff_video.errors import InputError
from mmdiff_video.nvs.evaluate import eval_3dgs
from mmdiff_video.runs import KINDS, open_run

_DENSE = (score_dense, ("data_root", "max_images"))

SCORERS: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "3dgs": (eval_3dgs, ("data_root", "split", "max_clips", "eval_index")),
    "dense": _DENSE,
    "joint": _DENSE,
}
"""Kind of run -> the function that scores it, and the options that this takes."""


def score_run(run: Path, **options: Any) -> str:
    """Score a run and write the report into its folder; returns the table.

    Args:
        run: a run folder.
        options: keyword arguments of :func:`mmdiff_video.nvs.evaluate.eval_3dgs` or
            :func:`score_dense`; those that are None count as not given.

    Raises:
        InputError: no run there, an option that its kind does not take, or as the function that
            scores it.
    """
    kind = open_run(run).facts.kind
    score, takes = SCORERS[kind]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in takes:
            flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in takes)
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning here: '{run}' is {KINDS[kind]};"
                f" `eval` takes {flags} for it"
            )
    return score(run, **given)
