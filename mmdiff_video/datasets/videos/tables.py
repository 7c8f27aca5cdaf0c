"""What the tables of an mp4 claim (ISO 14496-12), read before FFmpeg meets them.

FFmpeg's work grows with the square of an edit list's entries, and it makes room for every frame
that a table claims: a file of a few KB can keep it busy for hours, or take gigabytes.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PARENTS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf")


@dataclass
class Claims:
    """What an mp4 claims; all is 0 in other files.

    Attributes:
        edits: entries of the longest edit list.
        samples: frames, of sound too, in all tables that need not state each one's size.
    """

    edits: int = 0
    samples: int = 0


def read_claims(path: Path) -> Claims:
    """Walk through the boxes of a file, once per process and as long as it is not changed.

    Raises:
        OSError: it cannot be read.
    """
    state = path.stat()
    return _walk(path.absolute(), state.st_size, state.st_mtime_ns)


# A video in fragments has some ten thousand boxes an hour, and is opened for each sample.
@functools.lru_cache(maxsize=16384)
def _walk(path: Path, size: int, modified: int) -> Claims:
    claims = Claims()
    with path.open("rb") as file:
        spans = [(0, size)]
        while spans:
            place, end = spans.pop()
            while place + 8 <= end:
                kind, content, after = _box(file, place, end)
                if after <= place:
                    break
                if kind in _PARENTS:
                    spans.append((content, min(after, end)))
                _add(claims, kind, file, content)
                place = after
    return claims


def _box(file: BinaryIO, place: int, end: int) -> tuple[bytes, int, int]:
    """Kind of a box, where its content begins and where the next box does."""
    file.seek(place)
    head = file.read(16)
    size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], place + 8
    if size == 1:
        size, content = int.from_bytes(head[8:], "big"), place + 16
    elif size == 0:  # to the end
        size = end - place
    return kind, content, place + size if size >= 8 else place


def _add(claims: Claims, kind: bytes, file: BinaryIO, content: int) -> None:
    if kind not in (b"elst", b"stsz", b"trun"):
        return
    file.seek(content)
    head = file.read(12)
    first, second = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    if kind == b"elst":
        claims.edits = max(claims.edits, first)
    elif kind == b"trun":
        claims.samples += first
    elif first:  # every sample has this size
        claims.samples += second
