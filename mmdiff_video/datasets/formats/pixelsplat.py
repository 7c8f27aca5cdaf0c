"""pixelSplat's chunks of RealEstate10K.

``FOLDER/*.torch`` are lists of dicts (key, url, timestamps [N], cameras [N, 18], images: N tensors
of encoded bytes), and ``FOLDER/index.json`` leads from a key to its chunk. Chunks written by hand
are read as well where they can be understood: numbers as lists, pictures as ``bytes``.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.formats.camera_track import ROW_NUMBERS, track_from_rows
from mmdiff_video.datasets.formats.frame_sources import decode_pictures, posed_clip
from mmdiff_video.datasets.names import key_problem
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json

_MOST_FRAMES = 1_000_000  # nine hours; tensors may claim sizes that their file does not hold


class Chunks:
    """The clips in the chunks of one folder, by their keys."""

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            InputError: there is none, or it is no object from clip key to chunk.
        """
        self._folder = folder
        path = folder / "index.json"
        if not path.is_file():
            raise InputError(f"'{folder}' holds chunks but no index.json (clip key -> chunk)")
        try:
            content = read_json(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
        if not isinstance(content, dict):
            raise InputError(f"{path} is no JSON object from clip key to chunk file")
        self._chunk: dict[str, Any] = content

    def keys(self) -> list[str]:
        """Keys of all clips; those of one chunk are neighbours."""
        return sorted(self._chunk, key=lambda key: (str(self._chunk[key]), key))

    def open(self, key: str) -> PosedClip:
        """Read and check one clip.

        Raises:
            ClipError: the index names no chunk of this folder, or what lies there is no such clip.
        """
        name = self._chunk[key]
        if not isinstance(name, str) or key_problem(name):
            raise ClipError(f"index.json names no chunk of its folder for it: {str(name)[:60]!r}")
        chunk = self._folder / name
        item = _chunk_item(chunk, key)
        where = f"chunk {name}"
        timestamps = _timestamps(item["timestamps"], where)
        rows = _numbers(item["cameras"], f"{where}: its cameras")
        if rows.shape[1:] != (ROW_NUMBERS,) or timestamps.shape != rows.shape[:1]:
            raise ClipError(
                f"{where}: cameras are {tuple(rows.shape)} and timestamps "
                f"{tuple(timestamps.shape)}, expected [N, {ROW_NUMBERS}] and [N]"
            )
        if not len(rows):
            raise ClipError(f"{where}: the clip holds no camera")
        images = item["images"]
        if not isinstance(images, list | tuple):
            raise ClipError(f"{where}: its images are {_kind(images)}, not a list of pictures")
        for number, image in enumerate(images):
            _encoded(image, f"image {number} of {name}")
        track = track_from_rows(timestamps, rows, lambda i: f"{where}, camera {i}")
        return posed_clip(key, track, ChunkImages(chunk, key), len(images))


@dataclass(frozen=True)
class ChunkImages:
    """Encoded pictures of one clip inside a chunk."""

    chunk: Path
    key: str

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames; as :class:`~mmdiff_video.datasets.clips.clip.FrameSource`."""
        images = _chunk_item(self.chunk, self.key)["images"]
        named = [(f"image {i} of {self.chunk.name}", images[i]) for i in indices]
        return decode_pictures([(name, BytesIO(_encoded(image, name))) for name, image in named])


def _chunk_item(chunk: Path, key: str) -> dict[str, Any]:
    """Find the one clip of a key that a chunk holds, with all that a clip needs."""
    found = [item for item in _open_chunk(chunk) if item["key"] == key]
    if len(found) != 1:
        held = "holds it more than once" if found else "does not hold it"
        raise ClipError(f"chunk {chunk.name} {held}, though index.json names it")
    missing = [field for field in ("timestamps", "cameras", "images") if field not in found[0]]
    if missing:
        raise ClipError(f"chunk {chunk.name}: the clip has no '{missing[0]}'")
    return found[0]


def _open_chunk(path: Path) -> list[dict[str, Any]]:
    """Load a chunk: those of its items that are dicts with a key."""
    if not path.is_file():
        raise ClipError(f"no chunk '{path}'")
    state = path.stat()
    return _load_chunk(path, state.st_size, state.st_mtime_ns)


# A mapped chunk costs address space and its index, not memory for its pictures. Every loader
# process keeps a few open, because one costs tens of milliseconds to open.
@functools.lru_cache(maxsize=4)
def _load_chunk(path: Path, size: int, modified: int) -> list[dict[str, Any]]:
    try:
        items = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise ClipError(f"chunk {path.name} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ClipError(
            f"chunk {path.name} cannot be read ({type(error).__name__}): cut short, damaged, or it "
            "holds more than tensors, numbers, texts, lists and dicts"
        ) from None
    if not isinstance(items, list | tuple):
        raise ClipError(f"chunk {path.name} is {_kind(items)}, no list of clips")
    return [item for item in items if isinstance(item, dict) and type(item.get("key")) is str]


def _timestamps(value: object, where: str) -> Tensor:
    """Copy the timestamps of a clip as int64; floats that are whole numbers are read as well."""
    times = _numbers(value, f"{where}: its timestamps")
    whole = times.to(torch.int64)
    if times.is_floating_point() and not (whole == times.double()).all():
        raise ClipError(f"{where}: its timestamps are no whole microseconds within 64 bits")
    return whole


def _numbers(value: object, what: str) -> Tensor:
    """Copy a tensor, or lists of numbers; what stays must not keep the mapped chunk open."""
    if isinstance(value, list | tuple):
        try:
            value = torch.from_numpy(np.array(value))  # unlike torch, NumPy keeps 64 bits
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise ClipError(f"{what} are a list of something else than numbers") from None
    if (
        not isinstance(value, Tensor)
        or not _is_plain(value)
        or value.is_complex()
        or value.dtype == torch.bool
    ):
        raise ClipError(f"{what} are {_kind(value)}, not numbers")
    if value.numel() > _MOST_FRAMES * ROW_NUMBERS:
        raise ClipError(f"{what} are of {_MOST_FRAMES} frames or more")
    return value.detach().clone()


def _encoded(image: object, name: str) -> memoryview:
    """The bytes of a picture, which are a tensor in pixelSplat's own chunks; nothing is copied."""
    if isinstance(image, bytes | bytearray):
        return memoryview(image)
    # A tensor that is not contiguous may claim any number of bytes that no file holds.
    if (
        isinstance(image, Tensor)
        and _is_plain(image)
        and image.dtype == torch.uint8
        and image.ndim == 1
        and image.is_contiguous()
    ):
        return image.detach().numpy().data
    raise ClipError(f"{name} is {_kind(image)}, not the bytes of a picture file")


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is neither sparse, nested, quantised nor without data."""
    dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    return dense and tensor.device.type == "cpu"


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        kind = f"{value.dtype} {tuple(value.shape)} {value.layout}".replace("torch.", "")
        return f"a tensor ({kind})"
    return f"of type {type(value).__name__}"
