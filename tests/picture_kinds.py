"""Writers of pictures of kinds that Pillow reads but does not write."""

import struct
import zlib
from pathlib import Path

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(
    path: Path,
    values: np.ndarray,
    bits: int,
    kind: int,
    *chunks: tuple[bytes, bytes],
    size: tuple[int, int] | None = None,
) -> Path:
    """Write values [H, W] or [H, W, C] of any number of bits, with chunks before the pixels."""
    height, width = values.shape[:2]
    flat = values.reshape(height, -1)
    if bits == 16:
        rows = flat.astype(">u2").view(np.uint8)
    else:
        each = flat[..., None].astype(np.uint8) >> np.arange(bits - 1, -1, -1) & 1
        rows = np.packbits(each.reshape(height, -1), axis=1)
    head = struct.pack(">IIBBBBB", *(size or (width, height)), bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [chunk(b"IHDR", head), *(chunk(*c) for c in chunks), chunk(b"IDAT", data)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path


def plain_tiff(tags: dict[int, int], pixels: bytes = b"") -> bytes:
    """Make a TIFF of one strip from its tags, all of 32 bits, but those of the strip."""
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = sorted({**tags, 273: start, 279: len(pixels) or 9}.items())
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + b"\0" * 4 + pixels


def exif(orientation: int) -> bytes:
    """EXIF, from its TIFF header on, that says nothing else."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def write_bmp4(path: Path, values: np.ndarray, palette: np.ndarray) -> Path:
    """Write a palette BMP of 4 bits; values [H, W], the width a multiple of 8."""
    height, width = values.shape
    table = np.zeros((16, 4), np.uint8)
    table[: len(palette), :3] = palette[:, ::-1]
    rows = (values[::-1, 0::2] << 4 | values[::-1, 1::2]).astype(np.uint8).tobytes()
    start = 14 + 40 + 64
    head = struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 4, 0, len(rows), 0, 0, 16, 0)
    path.write_bytes(head + info + table.tobytes() + rows)
    return path
