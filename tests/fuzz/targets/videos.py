"""Video files: the frames are those of decoding from the start, or the file is refused."""

import random
import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes, cut_short
from video_files import encode, grey

from mmdiff_video.datasets.video_reader import (
    VideoError,
    count_frames,
    frame_rate,
    iterate_frames,
    read_frames,
)

_KINDS = {
    "h264.mp4": ("libx264", "yuv420p", {"bf": "0", "g": "4"}),
    "b-frames.mp4": ("libx264", "yuv420p", {"bf": "2", "g": "4"}),
    "h264.mkv": ("libx264", "yuv420p", {"g": "3"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "mjpeg.mov": ("mjpeg", "yuvj420p", {}),
    "ffv1.mkv": ("ffv1", "yuv420p", {}),
    "gif.gif": ("gif", "rgb8", {}),
}
_BOXES = (
    *(b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"elst", b"tkhd", b"mdhd", b"mvhd"),
    *(b"avcC", b"stsd", b"hdlr", b"moov", b"trak", b"mdat", b"ftyp", b"minf", b"dinf", b"colr"),
)
_COUNT = 8


@cache
def video(kind: str) -> bytes:
    """A good video of eight frames of 32 x 32 pixels."""
    codec, pixels, options = _KINDS[kind]
    pictures = [grey(i, 32, 32) for i in range(_COUNT)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / kind
        return encode(path, codec, pixels, options, pictures=pictures).read_bytes()


def break_boxes(rng: random.Random, data: bytes) -> bytes:
    """Change numbers inside a box of an MP4, or its length or name."""
    present = [box for box in _BOXES if box in data]
    box = rng.choice(present)
    place = data.index(box)
    at = place + rng.choice((-4, 0, 4, 8, 12, 16, 20, 24, 28, 40, 48, 80))
    if not 0 <= at <= len(data) - 4:
        return data
    values = (0, 1, 2, 7, 255, 1000, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
    return data[:at] + struct.pack(">I", rng.choice(values)) + data[at + 4 :]


@target(cases=100)
def videos(case: Case) -> None:
    """A video of broken bytes or boxes, or cut short."""
    rng = case.rng
    kind = rng.choice(sorted(_KINDS))
    data = video(kind)
    way = rng.randrange(8)
    if way == 0:
        case.note("a good", kind)
    elif way == 1:
        data = cut_short(rng, data)
        case.note(kind, f"cut to {len(data)} bytes")
    elif way < 6 and kind.endswith((".mp4", ".mov")):
        for _ in range(rng.randint(1, 2)):
            data = break_boxes(rng, data)
        case.note(kind, "with broken boxes")
    else:
        data = break_bytes(rng, data)
        case.note(kind, "with broken bytes")
    path = case.folder / f"clip{Path(kind).suffix}"
    path.write_bytes(data)
    with case.refusable(VideoError, naming=path.name):
        count = count_frames(path)
        require(count > 0, "a video without a frame")
        require(way != 0 or count == _COUNT, f"{count} frames")
        require(0 < frame_rate(path) <= 1000, f"{frame_rate(path)} frames a second")
        require(count < 1000, f"{count} frames of {len(data)} bytes")
        wanted = [rng.randrange(count) for _ in range(3)]
        found = read_frames(path, wanted)
        require(found.dtype == np.uint8, f"frames of {found.dtype}")
        require(found.shape[0] == 3, f"frames {found.shape}")
        require(found.shape[3] == 3, f"frames {found.shape}")
        whole = list(iterate_frames(path))
        require(len(whole) == count, f"{count} frames are counted, {len(whole)} come")
        for number, frame in zip(wanted, found, strict=True):
            require(np.array_equal(frame, whole[number]), f"frame {number} is another one singly")
    require(way != 0 or case.refusal is None, f"a good video is refused: {case.refusal}")
