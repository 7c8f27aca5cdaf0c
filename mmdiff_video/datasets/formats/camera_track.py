"""RealEstate10K camera numbers: the text file and the rows inside pixelSplat chunks.

A row has 18 numbers: fx fy cx cy (divided by image width / height, principal point from the
top-left corner), two that nobody uses, and the 3x4 world-to-camera matrix, row-major, OpenCV axes.
A line of the text file has the frame's timestamp in microseconds before them.

Numbers beyond what a camera can have are refused, so that none overflows in float32 later on:
focal lengths from 0.02 to 100 (fields of view from 175 down to 0.6 degrees), a principal point
within the image, translations up to 1e8 file units, which holds metres on any map.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmdiff_video.datasets.clips.clip import ClipError
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_text

ROW_NUMBERS = 18
# Rotations further than this from orthonormal are no rotations; nearer ones are rounded to the
# nearest true rotation (some tools write theirs scaled by a few parts in ten thousand).
_ROTATION_TOLERANCE = 2e-3
_LEAST_FOCAL, _MOST_FOCAL = 0.02, 100.0
_MOST_TRANSLATION = 1e8
_TIMES = torch.iinfo(torch.int64)

# An hour of video has 20 MB of cameras; a line has some 250 characters.
_MOST_BYTES = 64 * 2**20
_MOST_CHARACTERS = 10_000


class CameraTrack(NamedTuple):
    """The cameras of N frames.

    Attributes:
        timestamps: int64 [N], microseconds, strictly increasing.
        intrinsics: float64 [N, 4], fx fy cx cy divided by image width / height.
        viewmats: float64 [N, 4, 4] world-to-camera, file units.
    """

    timestamps: Tensor
    intrinsics: Tensor
    viewmats: Tensor


def read_camera_file(path: Path) -> CameraTrack:
    """Read ``<key>.txt``: the source URL, then one line per frame.

    Raises:
        ClipError: names the file and the line with what is wrong in it.
    """
    try:
        if not path.is_file():
            raise ClipError(f"{path.name} cannot be read: it is no file")
        if path.stat().st_size > _MOST_BYTES:
            raise ClipError(f"{path.name} is no camera file: it is larger than 64 MiB")
        text = read_text(path)
    except (OSError, InputError) as error:
        raise ClipError(f"{path.name} cannot be read: {error}") from None
    return parse_camera_file(text, path.name)


def parse_camera_file(text: str, name: str) -> CameraTrack:
    """Parse the text of a camera file as :func:`read_camera_file`; ``name`` is for messages."""
    lines = text.rstrip().splitlines()
    if len(lines) < 2:
        raise ClipError(f"{name} holds no camera: expected a source line and one line per frame")
    if len(lines[0].split(maxsplit=1)) > 1:
        raise ClipError(f"{name}, line 1: expected the source URL, found {lines[0][:40]!r}")
    timestamps, rows = [], []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) > _MOST_CHARACTERS:
            raise ClipError(f"{name}, line {number}: {len(line)} characters are no camera")
        columns = line.split()
        if len(columns) != 1 + ROW_NUMBERS:
            raise ClipError(
                f"{name}, line {number}: {len(columns)} columns, expected {1 + ROW_NUMBERS} "
                "(timestamp, fx fy cx cy, 2 unused, 12 of the 3x4 matrix)"
            )
        try:
            if "_" in line or not line.isascii():  # Python reads 1_000 and digits of any script
                raise ValueError("it is written with more than ASCII digits")
            timestamps.append(int(columns[0]))
            rows.append([float(column) for column in columns[1:]])
        except ValueError as error:
            raise ClipError(f"{name}, line {number}: not a number: {str(error)[:100]}") from None
        if not _TIMES.min <= timestamps[-1] <= _TIMES.max:
            raise ClipError(f"{name}, line {number}: the timestamp does not fit into 64 bits")
    track = torch.tensor(rows, dtype=torch.float64)
    return track_from_rows(torch.tensor(timestamps), track, lambda i: f"{name}, line {i + 2}")


def track_from_rows(timestamps: Tensor, rows: Tensor, where: Callable[[int], str]) -> CameraTrack:
    """Check and convert camera rows.

    Args:
        timestamps: int64 [N], microseconds.
        rows: [N, 18].
        where: turns a frame index into the words that a message starts with.

    Raises:
        ClipError: a number that is not finite, timestamps that do not increase, a focal length,
            principal point or translation that no camera has (the ranges are those of this
            module), or a matrix that holds no rotation.
    """
    rows = rows.to(torch.float64)
    intrinsics, matrices = rows[:, :4], rows[:, 6:].reshape(-1, 3, 4)
    rotations, translations = matrices[:, :, :3], matrices[:, :, 3]
    identity = torch.eye(3, dtype=torch.float64)
    finite = rows.isfinite().all(1)
    # Nothing below is defined for rows that are not finite; they are named first.
    drift = (rotations @ rotations.mT - identity).abs().amax((1, 2))
    determinant = torch.linalg.det(rotations)
    focal, centre = intrinsics[:, :2], intrinsics[:, 2:]
    increasing = torch.ones(len(timestamps), dtype=torch.bool)
    increasing[1:] = timestamps[1:] > timestamps[:-1]
    _require(finite, where, lambda i: "a number is not finite")
    _require(increasing, where, lambda i: f"timestamp {timestamps[i]} does not increase")
    _require(
        (focal > 0).all(1),
        where,
        lambda i: f"focal length {focal[i].tolist()} is not positive",
    )
    _require(
        ((focal >= _LEAST_FOCAL) & (focal <= _MOST_FOCAL)).all(1),
        where,
        lambda i: (
            f"focal length {focal[i].tolist()} is no camera's ({_LEAST_FOCAL} to {_MOST_FOCAL:g} "
            "image widths and heights)"
        ),
    )
    _require(
        ((centre > 0) & (centre < 1)).all(1),
        where,
        lambda i: f"principal point {centre[i].tolist()} lies outside the image (0 to 1)",
    )
    _require(
        (drift < _ROTATION_TOLERANCE) & (determinant > 0),
        where,
        lambda i: (
            f"the 3x3 part is no rotation (off by {drift[i]:.2g}, determinant {determinant[i]:.2g})"
        ),
    )
    _require(
        (translations.abs() <= _MOST_TRANSLATION).all(1),
        where,
        lambda i: f"translation {translations[i].tolist()} is beyond {_MOST_TRANSLATION:g}",
    )
    u, _, vh = torch.linalg.svd(rotations)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    viewmats[:, :3, :3] = u @ vh
    viewmats[:, :3, 3] = translations
    return CameraTrack(timestamps, intrinsics.clone(), viewmats)


def _require(good: Tensor, where: Callable[[int], str], complaint: Callable[[int], str]) -> None:
    if not good.all():
        first = int((~good).nonzero()[0])
        raise ClipError(f"{where(first)}: {complaint(first)}")
