"""What a command left: equal for a run that was killed and resumed and one that was not."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_BYTES = torch.uint8

TIMED = frozenset({"samples_per_second", "seconds", "hours"})
"""Keys of JSON whose values tell time."""

_UNFINISHED = ".partial-"

_OTHER = ("tensorboard", ".lock")
"""Folders and ends of names whose bytes are not compared."""


def digest(folder: Path) -> dict[str, str]:
    """Digest every file below a folder: tensors by their values, JSON without times."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "tensorboard" in path.parts or path.name.endswith(_OTHER):
            continue
        if path.name.startswith(_UNFINISHED) and _of_cache(name):
            continue
        found[name] = _of_file(path, str(folder))
    return found


def leftovers(folder: Path) -> list[str]:
    """Unfinished files and folders."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob(f"{_UNFINISHED}*"))
    return [name for name in names if not _of_cache(name)]


def _of_cache(name: str) -> bool:
    """Whether a file is of a feature cache, which several processes may be filling: what a killed
    one left goes when it is an hour old."""
    return name.startswith("cache/")


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Say which files are missing, too many or others; of JSON also what differs in it."""
    missing = [f"no {name}" for name in wanted.keys() - found.keys()]
    more = [f"{name} is too many" for name in found.keys() - wanted.keys()]
    other = [
        f"{name} differs{_where(name, found[name], wanted[name])}"
        for name in found.keys() & wanted.keys()
        if found[name] != wanted[name]
    ]
    return sorted([*missing, *more, *other])


def _where(name: str, found: str, wanted: str) -> str:
    if not name.endswith((".json", ".jsonl")):
        return ""
    lines = list(_unequal(json.loads(found), json.loads(wanted), ""))
    return f": {', '.join(lines[:3])}"


def _unequal(found: Any, wanted: Any, place: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**wanted, **found}:
            yield from _unequal(found.get(key), wanted.get(key), f"{place}.{key}")
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            yield from _unequal(a, b, f"{place}[{i}]")
    elif found != wanted:
        yield f"{place} is {str(found)[:90]}, was {str(wanted)[:90]}"


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
