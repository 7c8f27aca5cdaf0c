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
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_CHECKSUM = "checksum"
_CHECKED = ("written", "with a checksum")
"""Beside the checksum: a flipped bit in the name of one does not hide that it should be there."""


_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
"""What the format calls them."""


class DamagedError(Exception):
    """A file of tensors is cut short, changed or of another format; the message says which."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors with their checksum; they may be on any device and share memory.

    Args:
        path: written in place, and tensors read from it may be mapped from it still: give a path
            of :func:`mmdiff_video.files.write_aside`.
        tensors: by name.
        metadata: further text to keep; not ``checksum`` or ``written``.

    Raises:
        OSError: the file cannot be written; has its name.
    """
    # widest first, so that each begins at a multiple of its element's size
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    kept = {name: tensors[name].detach().cpu().contiguous() for name in order}
    facts = {**(metadata or {}), _CHECKED[0]: _CHECKED[1]}
    header: dict[str, Any] = {"__metadata__": {**facts, _CHECKSUM: _checksum(kept, facts)}}
    end = 0
    for name, tensor in kept.items():
        start, end = end, end + tensor.nbytes
        form = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**form, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # not the library's save_file: it writes a temporary file of its own beside the path, which a
    # kill leaves there, and one that no other user may read; nor its save, which holds the tensors
    # in memory twice more, and orders the metadata by chance: equal tensors make equal files here
    try:
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in kept.values():
                file.write(tensor_bytes(tensor))
    except OSError as error:  # a write does not know of which file
        raise OSError(error.errno, error.strerror, str(path)) from None


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
