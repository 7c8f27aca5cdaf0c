"""Where the frames of a posed clip come from, and the clip that they make with its cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from mmdiff_video.datasets.clips.clip import ClipError, FrameSource, PosedClip
from mmdiff_video.datasets.formats.camera_track import CameraTrack
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.datasets.video_reader import read_frames

# A training sample holds some twenty frames at once, 4 GB of this size.
_MOST_PIXELS = 8192 * 8192
# Strips of few pixels would become huge where the short side is enlarged to that of a sample.
_MOST_ASPECT = 50


@dataclass(frozen=True)
class VideoFile:
    """Frames of a video file."""

    path: Path

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames; as :class:`~mmdiff_video.datasets.clips.clip.FrameSource`."""
        return read_frames(self.path, indices)


@dataclass(frozen=True)
class PictureFiles:
    """Frames that lie as single pictures, in order."""

    paths: tuple[Path, ...]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames; as :class:`~mmdiff_video.datasets.clips.clip.FrameSource`."""
        return decode_pictures([(self.paths[i].name, self.paths[i]) for i in indices])


def decode_pictures(files: Sequence[tuple[str, Path | BytesIO]]) -> np.ndarray:
    """Decode (name for messages, file) pairs to uint8 [n, H, W, 3].

    Raises:
        ClipError: one cannot be read, or they differ in size.
    """
    pictures = []
    for name, file in files:
        try:
            pictures.append(read_rgb(file, name=name))
        except PictureError as error:
            raise ClipError(str(error)) from None
        if pictures[-1].shape != pictures[0].shape:
            raise ClipError("its pictures differ in size")
    return np.stack(pictures)


def posed_clip(key: str, track: CameraTrack, frames: FrameSource, count: int) -> PosedClip:
    """Join cameras and pictures; decodes the first frame to learn its size and that it works.

    Raises:
        ClipError: ``count``, the number of frames, is not that of the cameras; the first frame
            cannot be read, is too large or a mere strip.
    """
    if count != len(track.viewmats):
        raise ClipError(f"{count} frames in the video but {len(track.viewmats)} cameras")
    height, width = frames.read([0]).shape[1:3]
    if height * width > _MOST_PIXELS:
        raise ClipError(
            f"its pictures have {width} x {height} pixels, more than 8192 x 8192: scale them down"
        )
    if max(height, width) > _MOST_ASPECT * min(height, width):
        raise ClipError(f"its pictures are strips of {width} x {height} pixels")
    return PosedClip(
        key=key,
        intrinsics=track.intrinsics,
        viewmats=track.viewmats,
        height=height,
        width=width,
        frames=frames,
    )
