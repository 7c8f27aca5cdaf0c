"""Frames of PyAV as RGB pictures, turned and mirrored as their file asks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.videos.streams import VideoError, cannot_decode, check_size

if TYPE_CHECKING:
    import av


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


def upright(path: Path, frame: "av.VideoFrame", stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn and mirror a picture by the display matrix of its frame (ISO 14496-12, 8.3.2).

    Scales and shifts of the matrix are left out.

    Raises:
        VideoError: the matrix is neither of quarter turns nor mirrors.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return stored
    # The point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64).tolist()
    along, across = abs(a) + abs(d), abs(b) + abs(c)
    if min(along, across) > 0.01 * max(along, across):
        raise VideoError(
            f"{path.name} asks to be shown turned by {frame.rotation} degrees, no quarter turn:"
            " re-encode it upright"
        )
    if across > along:
        stored, a, d = stored.transpose(1, 0, 2), c, b
    if a < 0:
        stored = stored[:, ::-1]
    if d < 0:
        stored = stored[::-1]
    return np.ascontiguousarray(stored)
