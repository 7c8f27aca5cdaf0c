"""Where a run starts: with nothing, or at its newest checkpoint if that is of the same run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, remove_partials, remove_partials_of
from mmdiff_video.process import processes
from mmdiff_video.training.checkpoint import checkpoints, load_state

SKIPPED = "skipped.json"
"""What a run left out, written when it ends."""


def newest_checkpoint(run: Path, *, resume: bool) -> Path | None:
    """Find the checkpoint that a run goes on from; None where it starts with the first step.

    Called on every process. What a killed process had half written is deleted first.

    Args:
        run: the run folder.
        resume: whether to go on with what is there.

    Raises:
        InputError: the folder holds checkpoints and ``resume`` is False, or it is True and no run
            was started there.
    """
    world = processes()
    if world.is_main_process:
        _remove_unfinished(run)
    world.wait_for_everyone()
    found = checkpoints(run)
    if not resume:
        if found:
            raise InputError(
                f"{run} holds a run of {load_state(found[-1])['step']} steps already;"
                " resume it (--resume), or choose another folder"
            )
        return None
    if found:
        return found[-1]
    if not (run / "metrics.jsonl").exists():
        raise InputError(f"nothing to resume in {run}: no run was started there")
    return None  # killed before its first checkpoint


def is_finished(run: Path, steps: int) -> bool:
    """Whether a run has done its steps and written what comes after the last of them.

    ``skipped.json`` is the last that it writes, and says after which step; that of version 0.2.0
    and before says nothing, and is believed.
    """
    found = checkpoints(run)
    if not found or load_state(found[-1])["step"] < steps:
        return False
    try:
        return read_json(run / SKIPPED).get("step", steps) >= steps
    except (InputError, OSError, AttributeError, TypeError):  # it is written anew
        return False


def preview_path(run: Path, step: int) -> Path:
    """Where the preview of a step lies."""
    return run / "previews" / f"step-{step:06d}.png"


def refuse_fewer_steps(run: Path, done: int, steps: int, setting: str = "train.steps") -> None:
    """Refuse to go on to a step that lies behind.

    Args:
        run: the run folder.
        done: steps done.
        steps: steps asked for in all.
        setting: what they are called.

    Raises:
        InputError: names both.
    """
    if done > steps:
        raise InputError(
            f"{run}: {done} steps are done already, and {setting} is {steps}: resume with"
            f" {done} or more, or train in another folder"
        )


def refuse_other_run(
    checkpoint: Path, state: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """Refuse to go on with other settings than those a run must keep.

    Args:
        checkpoint: to go on from.
        state: its ``state.json``; what it lacks, as one of an older version may, is not compared.
        identity: name of a setting -> its value now.

    Raises:
        InputError: the first setting that differs, with both values.
    """
    for name, now in identity.items():
        if (then := state.get(name, now)) != now:
            raise InputError(
                f"{checkpoint}: cannot resume with {name.replace('_', ' ')} {now}, the run was"
                f" started with {then}: go on with that, or train in another folder"
            )


def _remove_unfinished(run: Path) -> None:
    """Delete what a killed process was writing or deleting, of what training alone writes."""
    for folder in (run / "checkpoints", run / "previews"):
        remove_partials(folder)
    for name in ("metrics.jsonl", SKIPPED, "config.yaml", "run.json"):
        remove_partials_of(run / name)
