"""The length of an mp4's edit lists (ISO 14496-12, 8.6.6), read before FFmpeg meets them.

FFmpeg's work grows with the square of the entries: a file of 300 KB can keep it busy for hours.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PARENTS = (b"moov", b"trak", b"edts")


def longest_edit_list(path: Path) -> int:
    """Count the entries of a file's longest edit list; 0 where it has none or is no mp4."""
    with path.open("rb") as file:
        return max(_entries(file, 0, path.stat().st_size), default=0)


def _entries(file: BinaryIO, place: int, end: int) -> Iterator[int]:
    """Walk through the boxes of a span of the file, into those that may hold an edit list."""
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], place + 8
        if size == 1:
            size, content = int.from_bytes(head[8:], "big"), place + 16
        elif size == 0:  # to the end
            size = end - place
        if size < 8:
            return
        if kind in _PARENTS:
            yield from _entries(file, content, min(place + size, end))
        elif kind == b"elst":
            file.seek(content + 4)
            yield int.from_bytes(file.read(4), "big")
        place += size
