"""Exact frames of a video file, decoding no more than it must.

decord has wheels for x86-64 Linux and Windows only, so PyAV stands behind the same functions
elsewhere. Both return the same pictures for the same file.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdiff_video.datasets.clips.clip import ClipError


class VideoError(ClipError):
    """A video file that is missing, damaged, cut short or not a video."""


def count_frames(path: Path) -> int:
    """Count the frames that a video file really holds (its header may promise more).

    Raises:
        VideoError: missing or unreadable.
    """
    reader = _open_decord(path)
    return len(_scan_pyav(path)[0]) if reader is None else len(reader)


def read_frames(path: Path, indices: Sequence[int]) -> np.ndarray:
    """Decode the frames of the given indices, in the order given (repeats are fine).

    Returns:
        uint8 RGB [len(indices), H, W, 3].

    Raises:
        VideoError: missing, unreadable, damaged, or too short for an index.
    """
    if not indices or min(indices) < 0:
        raise ValueError(f"frame indices must be non-negative and at least one, not {indices}")
    reader = _open_decord(path)
    return _read_pyav(path, indices) if reader is None else _read_decord(path, reader, indices)


def iterate_frames(path: Path) -> Iterator[np.ndarray]:
    """Decode a whole video in one go, a frame at a time: uint8 RGB [H, W, 3].

    Yields:
        As many as :func:`count_frames` says.

    Raises:
        VideoError: missing, unreadable or damaged.
    """
    import av

    promised = count_frames(path)
    shown, count = set(_scan_pyav(path)[0]), 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.video[0]):
                if frame.pts in shown:
                    count += 1
                    yield _upright(frame)
    except av.FFmpegError:
        raise _cannot_decode(path) from None
    if count < promised:
        raise _cannot_decode(path)


def frame_rate(path: Path) -> float:
    """Frames per second as the file states them; 25 where it does not.

    Raises:
        VideoError: missing or unreadable.
    """
    import av

    _check_exists(path)
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except av.FFmpegError:
        raise _cannot_open(path) from None
    return float(rate) if rate else 25.0


@functools.cache
def _has_decord() -> bool:
    try:
        import decord
    except (ImportError, OSError, RuntimeError):  # missing, or its library does not load
        return False
    decord.logging.set_level(decord.logging.QUIET)  # ffmpeg's chatter; we raise what matters
    return True


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise VideoError(f"no video '{path}'")


# The libraries' own messages are source lines of ffmpeg wrappers: no help to anybody.
def _cannot_open(path: Path) -> VideoError:
    return VideoError(f"{path.name} cannot be opened: cut short, damaged or not a video")


def _cannot_decode(path: Path) -> VideoError:
    return VideoError(f"{path.name} cannot be decoded: cut short or damaged")


def _too_short(path: Path, count: int, indices: Sequence[int]) -> VideoError:
    return VideoError(f"{path.name} holds {count} frames, frame {max(indices)} was asked for")


def _open_decord(path: Path) -> Any:
    """Open with decord; None where it is missing, or cannot be trusted with this file."""
    _check_exists(path)
    if not _has_decord():
        return None
    import decord

    try:
        # One thread: loaders run one process per core already.
        reader = decord.VideoReader(str(path), num_threads=1)
        first_time = reader.get_frame_timestamp([0])[0, 0] if len(reader) else 0.0
    except (decord.DECORDError, RuntimeError):
        raise _cannot_open(path) from None
    if len(reader) == 0:
        raise VideoError(f"{path.name} holds no frame")
    # A file cut without re-encoding hides the frames before its start (an edit list, negative
    # times). decord counts them but does not return them: all its numbers would be off.
    return None if first_time < 0 else reader


def _read_decord(path: Path, reader: Any, indices: Sequence[int]) -> np.ndarray:
    import decord

    if max(indices) >= len(reader):
        raise _too_short(path, len(reader), indices)
    try:
        return reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, RuntimeError):
        # Damaged, or of a width whose rows decord cannot convert (48 pixels): PyAV tells.
        return _read_pyav(path, indices)


def _scan_pyav(path: Path) -> tuple[list[int], list[int]]:
    """Presentation times of all frames, and of the key frames, sorted; demuxes, decodes nothing.

    Frames that the file hides (see :func:`_open_decord`) are no frames, but may be key frames.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path.name} has no video stream")
            packets = [
                (packet.pts, packet.is_discard, packet.is_keyframe)
                for packet in container.demux(container.streams.video[0])
                if packet.size and packet.pts is not None and not packet.is_corrupt
            ]
    except av.FFmpegError:
        raise _cannot_open(path) from None
    times = sorted(pts for pts, hidden, _ in packets if not hidden)
    if not times:
        raise VideoError(f"{path.name} holds no frame")
    return times, sorted(pts for pts, _, key in packets if key)


def _upright(frame: Any) -> np.ndarray:
    """Convert PyAV's frame to RGB, turned as the file asks (phones film sideways); decord does."""
    picture = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90)  # counterclockwise
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters % 4 else picture


def _read_pyav(path: Path, indices: Sequence[int]) -> np.ndarray:
    import av

    times, key_times = _scan_pyav(path)
    if max(indices) >= len(times):
        raise _too_short(path, len(times), indices)
    # Frames that share a key frame are decoded in one go after one seek.
    groups: dict[int, set[int]] = {}
    for index in set(indices):
        before = max(bisect_right(key_times, times[index]) - 1, 0)
        groups.setdefault(key_times[before] if key_times else times[0], set()).add(times[index])
    pictures: dict[int, np.ndarray] = {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for start, wanted in sorted(groups.items()):
                container.seek(start, stream=stream)
                last = max(wanted)
                for frame in container.decode(stream):
                    if frame.pts in wanted:
                        pictures[frame.pts] = _upright(frame)
                    if frame.pts is not None and frame.pts >= last:
                        break
    except av.FFmpegError:
        raise _cannot_decode(path) from None
    if any(times[index] not in pictures for index in indices):
        raise _cannot_decode(path)
    return np.stack([pictures[times[index]] for index in indices])
