"""Settings of a capture."""

from dataclasses import dataclass

from mmdiff_video.scenes.frames import MOST_FRAMES


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """How pictures become a capture.

    Attributes:
        frames: at most so many of a video, the sharpest of each of as many equal parts.
        longest_side: pixels to which pictures are shrunk, if they are larger.
        camera_model: of COLMAP, for poses that are searched.
        one_camera: all pictures are of one camera with one zoom; None: so for a video.
        check_poses: ask the pictures whether given poses are right.
        seed: of all random choices.
    """

    frames: int = MOST_FRAMES
    longest_side: int = 1600
    camera_model: str = "SIMPLE_RADIAL"
    one_camera: bool | None = None
    check_poses: bool = True
    seed: int = 0
