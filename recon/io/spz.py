"""Gaussians as ``.spz`` files, Niantic's compressed format (version 2 is written, 2 and 3 read).

Steps of the quantisation: positions 1/4096 of a world unit (coarser where the scene is larger than
2048), logarithms of scales 1/16 from -10 to 5.94, opacities 1/255, colours 1/38 of f_dc up to 3.33,
rotations 1/127.5, harmonics of degree 1 in 1/16 and of degrees 2 and 3 in 1/8, from -1 to 1.

A gzip stream: a header of 16 bytes, then all positions, opacities, colours, scales, rotations and
harmonics, quantised. Its axes are x right, y up, z back, where a scene here has y down and z ahead:
both are turned at this border. The layout follows the format's public description at
https://github.com/nianticlabs/spz.
"""

import gzip
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon.gaussians import Gaussians
from recon.io.columns import (
    SH_C0,
    Columns,
    from_columns,
    to_columns,
    warn_of_filter,
    write_bytes,
)
from recon.io.format_error import FormatError

_MAGIC, _VERSION = 0x5053474E, 2
_HEADER = struct.Struct("<IIIBBBB")
_COLOR_SCALE = 0.15
_ANTIALIASED = 1
"""Flag of a scene for Mip-Splatting's filter."""

_MOST_POINTS = 10_000_000
"""As the format's own reader has it."""

_REACH = 2**23 - 1
"""World units: positions have 24 bits with a sign."""

_LARGEST_LOG_SCALE = 255 / 16 - 10 + 1 / 32
_HARMONICS = -1 - 1 / 16, 1
"""What rounds to something that the format holds."""

_SIGNS = np.array([1, -1, -1])
"""Turns x, y, z of ours into the format's, and back."""

# Each harmonic keeps or changes its sign under that turn, (x, y, z) -> (x, -y, -z).
_SH_SIGNS = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])

_SH_BITS_FIRST, _SH_BITS_REST = 5, 4


def save_spz(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write one scene; warns where the format cannot hold how large, bright or dark something is.

    Raises:
        ValueError: the Gaussians are a batch, more than the format takes, farther out than it
            reaches, or hold a value that is not finite.
    """
    columns = to_columns(gaussians)
    count = len(columns.means)
    if count > _MOST_POINTS:
        raise ValueError(f"an .spz holds {_MOST_POINTS} Gaussians at most, not {count}")
    reach = float(np.abs(columns.means).max(initial=0))
    if reach >= _REACH:
        raise ValueError(f"an .spz reaches {_REACH} world units at most, not {reach:.6g}")
    # 24 bits with a sign: 12 of them behind the point, fewer where the scene is larger
    bits = int(np.clip(23 - np.ceil(np.log2(max(reach, 1e-9) * 1.001 + 1e-9)), 0, 12))
    degree = round((columns.harmonics.shape[1] + 1) ** 0.5) - 1
    fixed = (columns.means * _SIGNS * 2**bits).round().astype("<i4")
    positions = fixed.reshape(-1, 1).view("u1").reshape(-1, 4)[:, :3]
    rgb = (columns.rgb - 0.5) / SH_C0 * _COLOR_SCALE + 0.5
    scales = np.log(np.maximum(columns.scales, 1e-30))
    _tell_of_clipping(path, columns, rgb, scales)
    quats = columns.quats.copy()
    quats[:, 1:] *= _SIGNS
    quats *= np.where(quats[:, :1] < 0, -1, 1)
    parts = [
        _HEADER.pack(_MAGIC, _VERSION, count, degree, bits, 0, 0),
        np.ascontiguousarray(positions).tobytes(),
        _bytes(columns.opacities * 255),
        _bytes(rgb * 255),
        _bytes((scales + 10) * 16),
        _bytes(quats[:, 1:] * 127.5 + 127.5),
        _bytes(_rounded(columns.harmonics * _SH_SIGNS[: columns.harmonics.shape[1], None])),
    ]
    write_bytes(path, gzip.compress(b"".join(parts), 6, mtime=0))


def load_spz(path: str | os.PathLike[str]) -> Gaussians:
    """Read one scene, activated, float32 on the CPU.

    Raises:
        FormatError: no such file inside, a damaged one, or one of another version.
        OSError: it cannot be read.
    """
    path = Path(path)
    unpacker = zlib.decompressobj(wbits=31)
    head = _unpack(path, unpacker, path.read_bytes(), _HEADER.size)
    if len(head) < _HEADER.size:
        raise FormatError(f"'{path}' is no .spz file, or cut off: it is too short")
    magic, version, count, degree, bits, flags, _ = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise FormatError(f"'{path}' is no .spz file: it does not begin as one")
    if version not in (2, 3) or degree > 3 or bits > 24:
        raise FormatError(
            f"'{path}': an .spz of version {version} and degree {degree} is not read: versions 2"
            " and 3 are, of degrees 0 to 3"
        )
    bases = (degree + 1) ** 2 - 1
    sizes = [9, 1, 3, 3, 3 if version == 2 else 4, 3 * bases]
    # no more than announced: a small gzip stream may unpack to anything
    data = _unpack(path, unpacker, unpacker.unconsumed_tail, count * sum(sizes) + 1)
    if len(data) != count * sum(sizes) or not unpacker.eof:
        raise FormatError(f"'{path}' is cut off or damaged: {count} Gaussians do not fit its size")
    places = np.cumsum([0, *(count * size for size in sizes)])
    if flags & _ANTIALIASED:
        warn_of_filter(path)
    raw = np.frombuffer(data, "u1")
    blocks = [
        raw[a:b].reshape(count, size).astype(np.float64)
        for a, b, size in zip(places, places[1:], sizes, strict=False)
    ]
    low = blocks[0].reshape(count, 3, 3) @ [1, 256, 65536]
    means = np.where(low >= 2**23, low - 2**24, low) / 2**bits
    quats = _first_three(blocks[4]) if version == 2 else _smallest_three(blocks[4])
    quats[:, 1:] *= _SIGNS
    signs = _SH_SIGNS[:bases, None]
    return from_columns(
        Columns(
            means=means * _SIGNS,
            quats=quats,
            scales=np.exp(blocks[3] / 16 - 10),
            opacities=blocks[1][:, 0] / 255,
            rgb=0.5 + SH_C0 * (blocks[2] / 255 - 0.5) / _COLOR_SCALE,
            harmonics=(blocks[5].reshape(count, bases, 3) - 128) / 128 * signs,
        )
    )


def _tell_of_clipping(
    path: str | os.PathLike[str], columns: Columns, rgb: NDArray, scales: NDArray
) -> None:
    # smaller scales are no loss: the rasterizer widens all to some tenths of a pixel
    clipped = (scales > _LARGEST_LOG_SCALE).any(1) | ((rgb < 0) | (rgb > 1)).any(1)
    low, high = _HARMONICS
    clipped |= ((columns.harmonics < low) | (columns.harmonics > high)).any((1, 2))
    if clipped.any():
        warnings.warn(
            f"{path}: {int(clipped.sum())} of {len(columns.rgb)} Gaussians have colours or scales"
            " beyond the range of .spz, and are written with its largest ones",
            stacklevel=3,
        )


def _unpack(path: Path, unpacker: "zlib._Decompress", data: bytes, most: int) -> bytes:
    try:
        return unpacker.decompress(data, most)
    except zlib.error as error:
        raise FormatError(f"'{path}' is no .spz file, or damaged: {error}") from None


def _bytes(values: NDArray) -> bytes:
    return values.round().clip(0, 255).astype("u1").tobytes()


def _rounded(harmonics: NDArray) -> NDArray:
    """Quantise to the middle of buckets of 5 bits in degree 1 and 4 bits above, as the format."""
    values = (harmonics * 128).round() + 128
    bucket = np.full((1, harmonics.shape[1], 1), 2 ** (8 - _SH_BITS_REST))
    bucket[:, :3] = 2 ** (8 - _SH_BITS_FIRST)
    return np.floor((values + bucket / 2) / bucket) * bucket


def _first_three(xyz: NDArray) -> NDArray:
    xyz = xyz / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - np.square(xyz).sum(1, keepdims=True)))
    return np.concatenate([w, xyz], 1)


def _smallest_three(four: NDArray) -> NDArray:
    """Two bits for which of x, y, z, w is largest, and ten for each of the others, with a sign."""
    word = (four @ [1, 256, 65536, 16777216]).astype(np.uint64)
    largest = (word >> np.uint64(30)).astype(int)
    xyzw = np.zeros((len(four), 4))
    rows = np.arange(len(four))
    for place in (3, 2, 1, 0):
        here = largest != place
        value = (word & np.uint64(511)).astype(float) / 511 / 2**0.5
        sign = np.where(word >> np.uint64(9) & np.uint64(1), -1, 1)
        xyzw[here, place] = (value * sign)[here]
        word = np.where(here, word >> np.uint64(10), word)
    xyzw[rows, largest] = np.sqrt(np.maximum(0, 1 - np.square(xyzw).sum(1)))
    return xyzw[:, [3, 0, 1, 2]]
