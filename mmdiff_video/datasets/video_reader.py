"""Exact frames of a video file, decoding no more than it must.

Frame i is what decoding the file from its start gives as its i-th; see
:mod:`mmdiff_video.datasets.videos.index` for when less is decoded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.videos.index import VideoIndex, index_video
from mmdiff_video.datasets.videos.streams import VideoError, cannot_decode, open_video
from mmdiff_video.datasets.videos.upright import to_rgb

__all__ = ["VideoError", "count_frames", "frame_rate", "iterate_frames", "read_frames"]


def count_frames(path: Path) -> int:
    """Count the frames that a video file really holds (its header may promise more).

    Raises:
        VideoError: missing or unreadable.
    """
    return len(index_video(path).times)


def read_frames(path: Path, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Decode the frames of the given indices, in the order given (repeats are fine).

    Returns:
        uint8 RGB [len(indices), H, W, 3].

    Raises:
        VideoError: missing, unreadable, damaged, or too short for an index.
    """
    if not indices or min(indices) < 0:
        raise ValueError(f"frame indices must be non-negative and at least one, not {indices}")
    index = index_video(path)
    if max(indices) >= len(index.times):
        raise VideoError(
            f"{path.name} holds {len(index.times)} frames, frame {max(indices)} was asked for"
        )
    wanted = sorted(set(indices))
    pictures = _fetch(path, index, wanted) if index.random_access else None
    if pictures is None:
        index.random_access = False
        pictures = _decode_until(path, index, wanted)
    return np.stack([pictures[i] for i in indices])


def iterate_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Decode a whole video in one go, a frame at a time: uint8 RGB [H, W, 3].

    Yields:
        As many as :func:`count_frames` says.

    Raises:
        VideoError: missing, unreadable or damaged.
    """
    index, count = index_video(path), 0
    with open_video(path) as (container, stream):
        for frame in container.decode(stream):
            count += 1
            yield index.upright(path, frame, to_rgb(path, frame))
    if count != len(index.times):
        raise cannot_decode(path)


def frame_rate(path: Path) -> float:
    """Frames per second as the file states them; 25 where it states none up to 1000.

    Raises:
        VideoError: missing or unreadable.
    """
    with open_video(path) as (_, stream):
        rate = stream.average_rate
    return float(rate) if rate and 0 < rate <= 1000 else 25.0


def _fetch(
    path: Path, index: VideoIndex, wanted: Sequence[int]
) -> dict[int, NDArray[np.uint8]] | None:
    """Decode from the key frames before the wanted frames; None where others come out."""
    import av

    pictures: dict[int, NDArray[np.uint8]] = {}
    with open_video(path) as (container, stream):
        for place, numbers in index.by_key_frame(wanted):
            missing = {int(index.times[number]): number for number in numbers}
            try:
                container.seek(int(index.seek_times[place]), stream=stream)
            except av.FFmpegError:  # streams without an index cannot be sought in
                return None
            last, landed = max(missing), False
            for packet in container.demux(stream):
                if not landed and packet.size:
                    landed = True
                    if not packet.is_keyframe or packet.pts not in index.key_times:
                        return None
                passed = False
                for frame in packet.decode():
                    if frame.pts is None:
                        return None
                    if frame.pts in missing:
                        number = missing.pop(frame.pts)
                        stored = to_rgb(path, frame)
                        if not index.holds(number, frame, stored):
                            return None
                        pictures[number] = index.upright(path, frame, stored)
                    passed = passed or frame.pts >= last
                if passed:
                    break
            if missing:
                return None
    return pictures


def _decode_until(
    path: Path, index: VideoIndex, wanted: Sequence[int]
) -> dict[int, NDArray[np.uint8]]:
    """Decode from the start to the last of the wanted frames."""
    pictures: dict[int, NDArray[np.uint8]] = {}
    with open_video(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number == wanted[len(pictures)]:
                stored = to_rgb(path, frame)
                if not index.holds(number, frame, stored):
                    break
                pictures[number] = index.upright(path, frame, stored)
                if len(pictures) == len(wanted):
                    return pictures
    raise cannot_decode(path)
