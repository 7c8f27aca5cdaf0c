"""Which frames of a video make a capture: sharp ones, spread over its time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.video_reader import count_frames, iterate_frames

MOST_FRAMES = 150
"""Of a video, unless the user says otherwise: more take COLMAP long and show little that is new."""


class Frame(NamedTuple):
    """A frame that was chosen.

    Attributes:
        number: in the video, from 0.
        sharpness: see :func:`sharpness`.
        picture: uint8 [H, W, 3].
    """

    number: int
    sharpness: float
    picture: NDArray[np.uint8]


def choose_frames(video: Path, most: int = MOST_FRAMES) -> Iterator[Frame]:
    """Choose the sharpest frame in each of ``most`` equal parts of a video.

    A video of no more frames than that is taken whole. Each frame is decoded once, and one is held
    at a time.

    Raises:
        VideoError: missing, unreadable or damaged.
    """
    return sharpest(iterate_frames(video), count_frames(video), most)


def sharpest(pictures: Iterable[NDArray[np.uint8]], count: int, most: int) -> Iterator[Frame]:
    """The sharpest of ``count`` pictures in each of ``most`` equal parts, in their order."""
    best: Frame | None = None
    part = 0
    for number, picture in enumerate(pictures):
        now = number * most // count if count > most else number
        if now != part and best is not None:
            yield best
            best = None
        part = now
        found = Frame(number, sharpness(picture), picture)
        if best is None or found.sharpness > best.sharpness:
            best = found
    if best is not None:
        yield best


def sharpness(picture: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the luma, in squared steps of 255: small where it is blurred.

    It compares frames of one video, which show about the same things; between videos it means
    little.
    """
    luma = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    if min(luma.shape) < 3:
        return 0.0
    inner = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * inner).var())
