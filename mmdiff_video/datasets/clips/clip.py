"""The one type every posed-video format is converted to at its own border."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from mmdiff_video.skipped import Skipped


class ClipError(Exception):
    """A single clip cannot be used; the message is the reason that reports show."""


class FrameSource(Protocol):
    """Where the pictures of a clip come from. Must survive pickling: workers get a copy."""

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames, in the order asked: uint8 [n, H, W, 3].

        Raises:
            ClipError: the pictures cannot be read.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PosedClip:
    """A video with a camera for every frame. N frames of ``height`` x ``width`` pixels.

    Attributes:
        key: unique within its data set.
        intrinsics: float64 [N, 4], fx fy cx cy divided by image width / height; the principal point
            is measured from the image's top-left corner (0.5 is the middle).
        viewmats: float64 [N, 4, 4] world-to-camera, OpenCV axes (x right, y down, z forward), in
            the units of the file.
        height, width: of the pictures as stored.
        frames: decodes pictures on demand.
        caption: what the data root's captions say of the clip; None: nothing.
    """

    key: str
    intrinsics: Tensor
    viewmats: Tensor
    height: int
    width: int
    frames: FrameSource
    caption: str | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return len(self.viewmats)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames, in the order asked: uint8 [n, H, W, 3].

        Raises:
            ClipError: the pictures cannot be read, or are not of the clip's size.
        """
        frames = self.frames.read(indices)
        if frames.shape != (len(indices), self.height, self.width, 3):
            raise ClipError(
                f"pictures come as {frames.shape}, not {len(indices)} of {self.height}x{self.width}"
            )
        return frames

    def centres(self) -> Tensor:
        """Camera centres in the world, [N, 3], file units."""
        rotation, translation = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -(rotation.mT @ translation[..., None])[..., 0]


class LoadedClips(NamedTuple):
    """What a reader found: the usable clips in order of their keys, and the others with reasons."""

    clips: list[PosedClip]
    skipped: list[Skipped]
