"""Checkpoints: safetensors and JSON, no pickle, complete or absent.

    RUN/checkpoints/step-000100/
        model.safetensors      the trained weights
        ema.safetensors        their moving average
        optimizer.safetensors  moments: ``exp_avg.<parameter>`` and so on
        state.json             step, seed and what else the loop needs to go on

No random state is saved: the loop seeds every generator from (seed, step, process).

Every file carries a checksum. That of ``state.json`` stands in the metadata of the three others
too, so that files of different checkpoints are not taken for one. Checkpoints of version 0.1.0
have no checksums and are checked for what they must hold.
"""

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmdiff_video.errors import InputError
from mmdiff_video.files import read_text, remove_folder, write_folder_aside
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors
from mmdiff_video.training.optimizers import remembered

_NAME = re.compile(r"step-(\d{6,})")

_CHECKSUM = "checksum"
"""Its key in ``state.json``."""
_CHECKPOINT = "checkpoint"
"""The key of the same in the metadata of the other files."""


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
        moments = _moments(optimizer)
        state = {"step": step, **state, "without_moments": _without(moments, optimizer)}
        checksum = _checksum(state)
        files = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": moments}
        with write_folder_aside(path) as folder:
            for name, tensors in files.items():
                save_tensors(folder / f"{name}.safetensors", tensors, {_CHECKPOINT: checksum})
            text = json.dumps({**state, _CHECKSUM: checksum}, indent=2)
            (folder / "state.json").write_text(text, encoding="utf-8")
    for old in checkpoints(run)[:-keep]:
        remove_folder(old)
    return path


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Read ``state.json``.

    Raises:
        InputError: it is missing or damaged, or of another step than the folder is named after.
    """
    return _state_and_checksum(checkpoint)[0]


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
        InputError: the file is damaged, lacks moments that it should have, or is of a version that
            gave some parameters another kind of update.
    """
    moments: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read(checkpoint, "optimizer").items():
        slot, _, parameter = key.partition(".")
        moments.setdefault(parameter, {})[slot] = tensor
    state = load_state(checkpoint)
    names = _parameter_names(optimizer)
    # version 0.1.0 did not say which: none, once a sample was trained on
    may_lack = state.get("without_moments", [] if state.get("usable", 1) else names)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            if name in moments or name not in may_lack:
                found = moments.get(name, {})
                _check_moments(checkpoint, name, found, remembered(group, parameter))
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


def damaged(checkpoint: Path, reason: object) -> InputError:
    """Build the error for a checkpoint that is not as it was written."""
    return InputError(
        f"{checkpoint}: the checkpoint is damaged ({reason}); restore it from a copy, or delete it"
        " to go on from the one before"
    )


def _parameter_names(optimizer: Optimizer) -> list[str]:
    return [name for group in optimizer.param_groups for name in group["param_names"]]


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    names = _parameter_names(optimizer)
    return {
        f"{slot}.{names[index]}": torch.as_tensor(value)
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def _without(moments: Iterable[str], optimizer: Optimizer) -> list[str]:
    """Name the parameters that no gradient has reached."""
    reached = {key.partition(".")[2] for key in moments}
    return [name for name in _parameter_names(optimizer) if name not in reached]


def _checksum(state: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(state, sort_keys=True).encode()):08x}"


def _state_and_checksum(checkpoint: Path) -> tuple[dict[str, Any], str | None]:
    try:
        # not files.read_json: what a task logs may be NaN, and is kept so in the means
        state = json.loads(read_text(checkpoint / "state.json"))
        checksum = state.pop(_CHECKSUM, None)
        step = state["step"]
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise damaged(checkpoint, f"state.json cannot be read: {error!r}") from None
    if checksum not in (None, _checksum(state)):
        raise damaged(checkpoint, "state.json is not as it was written")
    named = _NAME.fullmatch(checkpoint.name)
    if named and (type(step) is not int or step != int(named[1])):
        raise damaged(checkpoint, f"its state.json is of step {step}")
    return state, checksum


def _read(checkpoint: Path, name: str) -> dict[str, Tensor]:
    checksum = _state_and_checksum(checkpoint)[1]
    try:
        tensors, metadata = load_tensors(checkpoint / f"{name}.safetensors")
    except PermissionError:
        raise
    except (OSError, DamagedError) as error:
        raise damaged(checkpoint, error) from None
    if metadata.get(_CHECKPOINT) != checksum:
        raise damaged(checkpoint, f"{name}.safetensors and state.json are of different checkpoints")
    return tensors


def _check_fit(checkpoint: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in [*wanted, *found]:
        sides = [_form(t.get(name)) for t in (found, wanted)]
        if sides[0] != sides[1]:
            raise InputError(
                f"{checkpoint}: another architecture: tensor '{name}' is {sides[0]} in the"
                f" checkpoint and {sides[1]} in the model; use the settings it was trained with"
            )


def _check_moments(
    checkpoint: Path, parameter: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    if found.keys() - wanted.keys():
        raise InputError(
            f"{checkpoint} is of a version whose optimizer treated some parameters otherwise:"
            " go on with that version, or train in another folder"
        )
    for slot, like in wanted.items():
        sides = [_form(t) for t in (found.get(slot), like)]
        if sides[0] != sides[1]:
            raise damaged(
                checkpoint,
                f"{slot} of '{parameter}' is {sides[0]} in optimizer.safetensors, not {sides[1]}",
            )


def _form(tensor: Tensor | None) -> str:
    """Say what a tensor is: its shape, and its type where that is not float32."""
    if tensor is None:
        return "absent"
    kind = "" if tensor.dtype == torch.float32 else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{list(tensor.shape)}{kind}"
