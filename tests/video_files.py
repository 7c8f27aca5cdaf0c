"""Videos whose frames show their number, and the ways in which files bend how they are shown."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

FRAMES, WIDTH, HEIGHT = 18, 64, 48


def grey(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """The picture of a number: one grey, brighter by 12 with each."""
    return np.full((height, width, 3), 20 + 12 * number, np.uint8)


def numbers(pictures: Any) -> list[int]:
    """The numbers that pictures show."""
    return [round((float(picture.mean()) - 20) / 12) for picture in pictures]


def encode(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    time: Callable[[int], int] | None = None,
) -> Path:
    """Write a video of the numbers 0 to 17, or of pictures; ``time`` gives frames' times."""
    if pictures is None:
        pictures = [grey(number) for number in range(FRAMES)]
    with av.open(str(path), "w", options=dict(container or {})) as file:
        stream: Any = file.add_stream(codec, rate=25, options=dict(options or {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if time is not None:
                frame.pts = time(number)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def in_order(path: Path, stream: int = 0) -> list[np.ndarray]:
    """What decoding from the start gives."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=stream)]


def with_matrix(source: Path, target: Path, a: float, b: float, c: float, d: float) -> Path:
    """Copy an mp4 with the display matrix ((a, b), (c, d)), 16.16 fixed point of ISO 14496-12."""
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 44
    rows = [round(x * 65536) for x in (a, b, 0, c, d, 0, 0, 0)]
    data[place : place + 36] = struct.pack(">9i", *rows, 1 << 30)
    target.write_bytes(data)
    return target


def with_edits(source: Path, target: Path, edits: Sequence[tuple[float, float]]) -> Path:
    """Copy an mp4 (its index behind its data) with an edit list: seconds, and start in seconds."""
    data = source.read_bytes()
    (scale,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    (movie,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    rows = [struct.pack(">IiI", round(s * movie), round(t * scale), 1 << 16) for s, t in edits]
    table = _box(b"elst", struct.pack(">II", 0, len(edits)) + b"".join(rows))
    old = data.index(b"edts") - 4
    (size,) = struct.unpack_from(">I", data, old)
    new = _box(b"edts", table)
    changed = bytearray(data[:old] + new + data[old + size :])
    for kind in (b"moov", b"trak"):
        place = changed.index(kind) - 4
        (size_before,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size_before + len(new) - size)
    target.write_bytes(changed)
    return target


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def patched(source: Path, target: Path, kind: bytes, offset: int, value: bytes) -> Path:
    """Copy a file with some bytes of its first box of a kind overwritten."""
    data = bytearray(source.read_bytes())
    place = data.index(kind) + 4 + offset
    data[place : place + len(value)] = value
    target.write_bytes(data)
    return target
