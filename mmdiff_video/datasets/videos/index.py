"""Where the frames of a video lie, and whether they may be fetched singly.

The frames of a file are what decoding it from its start gives, in that order. Decoding from a key
frame in the middle may give others: with open groups of pictures, frames hidden by an edit list,
codecs whose key frames are none. So a file is indexed in one of two ways:

- From its packets, where these prove that decoding from a key frame on is the same: H.264 whose
  packets are one frame each, whose key frames are IDR pictures, and whose frames lie between their
  key frames in time as well.
- Else by decoding it once, with a checksum of each picture. A frame that is fetched is compared
  with its checksum; a file where one differs is decoded from its start from then on.
"""

import functools
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.videos.h264 import H264Packets
from mmdiff_video.datasets.videos.streams import VideoError, open_video
from mmdiff_video.datasets.videos.upright import Matrix, display_matrix, to_rgb, turn

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_NO_TIME = -(1 << 63)  # FFmpeg's own mark

# An edit list, or a table of places, of a few bytes can play a file again and again.
_MOST_REPEATS = 100


@dataclass(eq=False)
class VideoIndex:
    """The N frames of a video, in the order of presentation.

    Attributes:
        times: int64 [N] in units of the stream; a mark where the file states none.
        key_times: int64 [K] of the key frames, sorted.
        seek_times: int64 [K], where to seek for each key frame.
        checksums: uint32 [N] of the pictures as stored; None where the packets are proof enough.
        matrix: the display matrix of the first frame, empty where it has none; None where the
            packets prove that each frame has the file's.
        random_access: whether frames may be fetched from a key frame on. Falls once one differs.
    """

    times: NDArray[np.int64]
    key_times: NDArray[np.int64]
    seek_times: NDArray[np.int64]
    checksums: NDArray[np.uint32] | None
    matrix: Matrix | None
    random_access: bool

    def holds(self, number: int, frame: "av.VideoFrame", stored: NDArray[np.uint8]) -> bool:
        """Whether a decoded frame, and its picture as stored, is that of the number."""
        if self.times[number] != _time(frame):
            return False
        return self.checksums is None or int(self.checksums[number]) == zlib.crc32(stored.data)

    def upright(
        self, path: Path, frame: "av.VideoFrame", stored: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Turn a picture as the video asks, by
        :func:`~mmdiff_video.datasets.videos.upright.turn`.
        """
        return turn(path, display_matrix(frame) if self.matrix is None else self.matrix, stored)

    def by_key_frame(self, numbers: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Group frame numbers by the key frame to decode from: its place and they."""
        groups: dict[int, list[int]] = {}
        for number in numbers:
            place = max(bisect_right(self.key_times, self.times[number]) - 1, 0)
            groups.setdefault(place, []).append(number)
        yield from sorted(groups.items())


def index_video(path: Path) -> VideoIndex:
    """Index a file, once per process and as long as it is not changed.

    Raises:
        VideoError: missing, unreadable, damaged or without a frame.
    """
    try:
        state = path.stat()
    except (OSError, ValueError):
        raise VideoError(f"no video '{path}'") from None
    return _index(path.absolute(), state.st_size, state.st_mtime_ns)


# Some KB each. Processes that are forked have those of their parent.
@functools.lru_cache(maxsize=16384)
def _index(path: Path, size: int, modified: int) -> VideoIndex:
    return _from_packets(path) or _from_frames(path)


def _from_packets(path: Path) -> VideoIndex | None:
    """Index without decoding; None where the packets do not prove enough."""
    with open_video(path) as (container, stream):
        if stream.codec_context.name != "h264":
            return None
        rule = H264Packets(stream.codec_context.extradata)
        times: list[int] = []
        keys: list[tuple[int, int, int]] = []  # time, where to seek, frames before
        for packet in _packets(path, container, stream):
            if not packet.size or packet.is_corrupt:  # the end, or the file ends within it
                continue
            if packet.pts is None or packet.is_discard:
                return None
            if not rule.is_one_frame(bytes(packet), packet.is_keyframe):
                return None
            if packet.is_keyframe:
                keys.append((packet.pts, _seek_time(packet), len(times)))
            times.append(packet.pts)
    if not keys or keys[0][2] != 0 or len(set(times)) != len(times):
        return None
    bounds = [before for _, _, before in keys] + [len(times)]
    ends = [time for time, _, _ in keys[1:]] + [max(times) + 1]
    for (first, last), (start, _, _), end in zip(pairwise(bounds), keys, ends, strict=True):
        if min(times[first:last]) < start or max(times[first:last]) >= end:
            return None
    return VideoIndex(
        times=np.array(sorted(times), np.int64),
        key_times=np.array([time for time, _, _ in keys], np.int64),
        seek_times=np.array([place for _, place, _ in keys], np.int64),
        checksums=None,
        matrix=None,
        random_access=True,
    )


def _from_frames(path: Path) -> VideoIndex:
    """Index by decoding from the start."""
    times: list[int] = []
    checksums: list[int] = []
    keys: dict[int, int] = {}
    shape, matrix = None, None
    with open_video(path) as (container, stream):
        for packet in _packets(path, container, stream):
            if packet.is_keyframe and packet.pts is not None:
                keys.setdefault(packet.pts, _seek_time(packet))
            for frame in packet.decode():
                stored = to_rgb(path, frame)
                if shape is not None and stored.shape != shape:
                    raise VideoError(
                        f"{path.name} changes its size at frame {len(times)}, from"
                        f" {shape[1]} x {shape[0]} to {stored.shape[1]} x {stored.shape[0]}:"
                        " re-encode it, or cut it there"
                    )
                if not times:
                    matrix = display_matrix(frame)
                shape = stored.shape
                times.append(_time(frame))
                checksums.append(zlib.crc32(stored.data))
    if not times:
        raise VideoError(f"{path.name} holds no frame")
    ordered = times[0] != _NO_TIME and all(a < b for a, b in pairwise(times))
    return VideoIndex(
        times=np.array(times, np.int64),
        key_times=np.array(sorted(keys), np.int64),
        seek_times=np.array([keys[time] for time in sorted(keys)], np.int64),
        checksums=np.array(checksums, np.uint32),
        matrix=matrix or (),
        random_access=ordered and bool(keys) and min(keys) <= times[0],
    )


def _packets(
    path: Path, container: "InputContainer", stream: "VideoStream"
) -> Iterator["av.Packet[VideoStream]"]:
    """Demux a stream, but not for ever."""
    read, size = 0, path.stat().st_size
    for packet in container.demux(stream):
        read += packet.size
        if read > _MOST_REPEATS * size:
            raise VideoError(
                f"{path.name} plays its data more than {_MOST_REPEATS} times over: it is damaged,"
                " or must be re-encoded"
            )
        yield packet


def _seek_time(packet: "av.Packet[VideoStream]") -> int:
    """Some containers seek by decoding times, some by presentation times; earlier is right too."""
    assert packet.pts is not None
    return packet.pts if packet.dts is None else min(packet.pts, packet.dts)


def _time(frame: "av.VideoFrame") -> int:
    return _NO_TIME if frame.pts is None else frame.pts
