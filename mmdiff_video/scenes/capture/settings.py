"""Settings of a capture."""

from dataclasses import dataclass

from mmdiff_video.checks import check_fields, check_seed
from mmdiff_video.errors import unknown_name
from mmdiff_video.scenes.capture.frames import MOST_FRAMES
from recon.io.colmap_model import MODELS

LEAST_SIDE = 64
"""Pixels: COLMAP finds nothing in smaller pictures."""


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """How pictures become a capture.

    Attributes:
        frames: at most so many of a video, the sharpest of each of as many equal parts.
        longest_side: pixels to which pictures are shrunk, if they are larger.
        camera_model: of COLMAP, for poses that are looked for; None: SIMPLE_PINHOLE for a video, as
            hand-held clips tell a bent lens from a longer one badly, SIMPLE_RADIAL for photographs.
        one_camera: all pictures are of one camera with one zoom; None: so for a video, and for
            photographs of one size.
        check_poses: ask the pictures whether given poses are right.
        refine_poses: fit given poses to the pictures, where that brings them nearer.
        seed: of all random choices.

    Raises:
        InputError: a number that makes no sense, or a camera model that is not read.
    """

    frames: int = MOST_FRAMES
    longest_side: int = 1600
    camera_model: str | None = None
    one_camera: bool | None = None
    check_poses: bool = True
    refine_poses: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "", frames=3, longest_side=LEAST_SIDE)
        check_seed("seed", self.seed)
        if self.camera_model is not None and self.camera_model not in MODELS:
            raise unknown_name("camera model", self.camera_model, MODELS)
