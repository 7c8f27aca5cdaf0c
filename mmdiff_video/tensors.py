"""Tensors on disk as safetensors files that carry a checksum.

The checksum, CRC-32 over the tensors' bytes, names, shapes and types and over the metadata, stands
in the file's metadata, beside a word that says that it must. It finds every flipped bit and every
part that was overwritten; it is no seal against somebody who means to deceive. Files of version
0.1.0 and of other programs have neither and are taken as they are.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_CHECKSUM = "checksum"
_CHECKED = ("written", "with a checksum")
"""Beside the checksum: a flipped bit in the name of one does not hide that it should be there."""


class DamagedError(Exception):
    """A file of tensors is cut short, changed or of another format; the message says which."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors with their checksum; they may be on any device and share memory.

    Args:
        path: written in place: give a path of :func:`mmdiff_video.files.write_aside`.
        tensors: by name.
        metadata: further text to keep; not ``checksum`` or ``written``.

    Raises:
        OSError: the file cannot be written.
    """
    # cloned: safetensors refuses tensors that share memory, as tied weights do
    kept = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    facts = {**(metadata or {}), _CHECKED[0]: _CHECKED[1]}
    # not the library's save_file: it writes a temporary file of its own beside the path, which a
    # kill leaves there, and one that no other user may read
    path.write_bytes(save(kept, {**facts, _CHECKSUM: _checksum(kept, facts)}))


def load_tensors(
    path: Path, *, checksum_required: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a file, on the CPU, and its metadata without the checksum.

    Args:
        path: of a safetensors file.
        checksum_required: take no file without one.

    Raises:
        DamagedError: it is no such file, cut short, or not as it was written.
        OSError: it is missing or cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedError(f"{path.name} is no whole safetensors file: {error}") from None
    written = metadata.pop(_CHECKSUM, None)
    # the feature caches of version 0.1.0 have a checksum without the word beside it
    expected = checksum_required or written is not None or _CHECKED[0] in metadata
    if expected and written != _checksum(tensors, metadata):
        raise DamagedError(f"{path.name} is not as it was written: its checksum does not match")
    metadata.pop(_CHECKED[0], None)
    return tensors, metadata


def tensor_bytes(tensor: Tensor) -> memoryview:
    """View a tensor's bytes, without a copy where it is contiguous and on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    layout = [[n, str(t.dtype), list(t.shape)] for n, t in sorted(tensors.items())]
    crc = zlib.crc32(json.dumps([layout, sorted(metadata.items())]).encode())
    for _, tensor in sorted(tensors.items()):
        crc = zlib.crc32(tensor_bytes(tensor), crc)
    return f"{crc:08x}"
