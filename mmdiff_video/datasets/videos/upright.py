"""Frames of PyAV as RGB pictures, turned and mirrored as their file asks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.videos.streams import VideoError, cannot_decode, check_size

if TYPE_CHECKING:
    import av


# Nine numbers in rows, 16.16 fixed point but for each third; none: shown as stored.
Matrix = tuple[int, ...]


def to_rgb(path: Path, frame: "av.VideoFrame") -> NDArray[np.uint8]:
    """Convert a frame as it is stored: uint8 [H, W, 3].

    Raises:
        VideoError: the decoder calls it damaged, or it is too large.
    """
    if frame.is_corrupt:
        raise cannot_decode(path)
    check_size(path, frame)
    stored: Any = frame.to_ndarray(format="rgb24")
    return stored


def display_matrix(frame: "av.VideoFrame") -> Matrix:
    """The matrix of a frame; empty where it has none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return () if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())


def turn(path: Path, matrix: Matrix, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn and mirror a picture by a display matrix (ISO 14496-12, 8.3.2).

    Scales and shifts of the matrix are left out.

    Raises:
        VideoError: the matrix is neither of quarter turns nor mirrors.
    """
    if not matrix:
        return stored
    # The point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = matrix[:5]
    along, across = abs(a) + abs(d), abs(b) + abs(c)
    if min(along, across) > 0.01 * max(along, across):
        raise VideoError(
            f"{path.name} asks to be shown turned or sheared by no quarter turn (display matrix"
            f" {a / 65536:.3g} {b / 65536:.3g} {c / 65536:.3g} {d / 65536:.3g}): re-encode it"
            " upright"
        )
    if across > along:
        stored, a, d = stored.transpose(1, 0, 2), c, b
    if a < 0:
        stored = stored[:, ::-1]
    if d < 0:
        stored = stored[::-1]
    return np.ascontiguousarray(stored)
