"""Checkpoints: safetensors and JSON, no pickle, complete or absent.

    RUN/checkpoints/step-000100/
        model.safetensors      the trained weights
        ema.safetensors        their moving average
        optimizer.safetensors  moments: ``exp_avg.<parameter>`` and so on
        state.json             step, seed and what else the loop needs to go on

No random state is saved: the loop seeds every generator from (seed, step, process).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_folder, remove_partials, write_folder_aside

_NAME = re.compile(r"step-(\d{6,})")


def checkpoints(run: Path) -> list[Path]:
    """List the complete checkpoints of a run, oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in (run / "checkpoints").glob("step-*"))
    return [path for _, path in sorted((int(m[1]), path) for m, path in found if m)]


def save_checkpoint(
    run: Path,
    step: int,
    model: nn.Module,
    ema: nn.Module,
    optimizer: Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of a step, then delete all but the ``keep`` newest.

    The optimiser's parameters must be named. A checkpoint that is there already stays.
    """
    path = run / "checkpoints" / f"step-{step:06d}"
    if not path.exists():
        with write_folder_aside(path) as folder:
            save_file(_on_cpu(model.state_dict()), folder / "model.safetensors")
            save_file(_on_cpu(ema.state_dict()), folder / "ema.safetensors")
            save_file(_on_cpu(_moments(optimizer)), folder / "optimizer.safetensors")
            (folder / "state.json").write_text(json.dumps({"step": step, **state}, indent=2))
    for old in checkpoints(run)[:-keep]:
        remove_folder(old)
    return path


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Read ``state.json``.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return json.loads((checkpoint / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint, error) from None


def load_weights(checkpoint: Path, module: nn.Module, *, ema: bool) -> None:
    """Fill a module, on whatever device it is, with the weights of a checkpoint.

    Raises:
        InputError: the file is damaged, or comes from another architecture.
    """
    tensors = _read(checkpoint, "ema" if ema else "model")
    _check_fit(checkpoint, tensors, module.state_dict())
    module.load_state_dict(tensors)


def load_moments(checkpoint: Path, optimizer: Optimizer) -> None:
    """Fill an optimiser, whose parameters must be named, with the moments of a checkpoint.

    Raises:
        InputError: the file is damaged, or of a version that gave some parameters another kind of
            update.
    """
    moments: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read(checkpoint, "optimizer").items():
        slot, _, parameter = key.partition(".")
        moments.setdefault(parameter, {})[slot] = tensor
    names = _parameter_names(optimizer)
    for group in optimizer.param_groups:
        known = [name for name in group["param_names"] if name in moments]
        if len({frozenset(moments[name]) for name in known}) > 1:
            raise InputError(
                f"{checkpoint} is of a version whose optimizer treated some parameters otherwise:"
                " go on with that version, or train in another folder"
            )
    packed = optimizer.state_dict()
    packed["state"] = {i: moments[name] for i, name in enumerate(names) if name in moments}
    optimizer.load_state_dict(packed)


def load_model(run: Path, module: nn.Module, *, ema: bool = True) -> int:
    """Fill a module with a run's newest weights, for evaluation; returns their step.

    Args:
        run: the run folder.
        module: built with the run's own config.
        ema: the averaged weights, else the last ones.

    Raises:
        InputError: the run has no complete checkpoint, or one of another architecture.
    """
    found = checkpoints(run)
    if not found:
        raise InputError(f"{run}: no checkpoint in this folder; train there first")
    load_weights(found[-1], module, ema=ema)
    return load_state(found[-1])["step"]


def remove_unfinished(run: Path) -> None:
    """Delete the checkpoints that a killed process was writing or deleting."""
    remove_partials(run / "checkpoints")


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # cloned: safetensors refuses tensors that share memory, as tied weights do
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}


def _parameter_names(optimizer: Optimizer) -> list[str]:
    return [name for group in optimizer.param_groups for name in group["param_names"]]


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    names = _parameter_names(optimizer)
    return {
        f"{slot}.{names[index]}": torch.as_tensor(value)
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def _read(checkpoint: Path, name: str) -> dict[str, Tensor]:
    try:
        return load_file(checkpoint / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(checkpoint, error) from None


def _damaged(checkpoint: Path, error: Exception) -> InputError:
    return InputError(
        f"{checkpoint}: the checkpoint is damaged ({error}); delete it to go on from the one before"
    )


def _check_fit(checkpoint: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in [*wanted, *found]:
        sides = [list(t[name].shape) if name in t else "absent" for t in (found, wanted)]
        if sides[0] != sides[1]:
            raise InputError(
                f"{checkpoint}: another architecture: tensor '{name}' is {sides[0]} in the"
                f" checkpoint and {sides[1]} in the model; use the settings it was trained with"
            )
