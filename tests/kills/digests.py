"""What a command left: equal for a run that was killed and resumed and one that was not."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_BYTES = torch.uint8

TIMED = frozenset(
    {"samples_per_second", "seconds", "seconds_per_picture", "time", "seconds_per_step"}
)
"""Keys of JSON whose values tell time."""

_OTHER = ("tensorboard", ".lock")
"""Folders and ends of names whose bytes are not compared."""


def digest(folder: Path) -> dict[str, str]:
    """Digest every file below a folder: tensors by their values, JSON without times."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "tensorboard" in path.parts or path.name.endswith(_OTHER):
            continue
        found[name] = _of_file(path, str(folder))
    return found


def leftovers(folder: Path) -> list[str]:
    """Unfinished files and folders."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".partial-*")]


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Say which files are missing, too many or others."""
    missing = [f"no {name}" for name in wanted.keys() - found.keys()]
    more = [f"{name} is too many" for name in found.keys() - wanted.keys()]
    other = [
        f"{name} differs" for name in found.keys() & wanted.keys() if found[name] != wanted[name]
    ]
    return sorted([*missing, *more, *other])


def _of_file(path: Path, root: str) -> str:
    if path.suffix == ".safetensors":
        whole = hashlib.sha256()
        for name, tensor in sorted(load_file(path).items()):
            whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            whole.update(tensor.reshape(-1).view(dtype=_BYTES).numpy().tobytes())
        return whole.hexdigest()[:16]
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text()
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        values = [_untimed(json.loads(line)) for line in lines]
        return json.dumps(values, sort_keys=True).replace(root, "ROOT")
    data = path.read_bytes().replace(root.encode(), b"ROOT")
    return hashlib.sha256(data).hexdigest()[:16]


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(inner) for key, inner in value.items() if key not in TIMED}
    if isinstance(value, list):
        return [_untimed(inner) for inner in value]
    return value
