"""Turn a video, photographs or a project of others into pictures with cameras.

examples:
  mmdiff-video capture walk.mp4 --out walk                poses are found by COLMAP (pycolmap)
  mmdiff-video capture photos/ --out statue               photographs of one scene
  mmdiff-video capture project/ --out clean               a COLMAP project: checked, refined
  mmdiff-video capture transforms.json --out clean        of nerfstudio and instant-ngp
  mmdiff-video capture re10k/test/ID.txt --out clip       a clip of RealEstate10K

DIR becomes a COLMAP project that other programs read: images/ (undistorted PNG), sparse/0 (pinhole
cameras and points), transforms.json (the same cameras), cameras.png to look at, and report.json,
which says what was left out and why. It appears when all is done; the same command again finds it.

To film: walk sideways, slowly, in good light, past things that stand still. Turning on the spot
shows no depth. 20 to 200 pictures are good.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdiff_video.cli._arguments import given, out_argument, seed_argument

if TYPE_CHECKING:
    from mmdiff_video.scenes.capture.settings import CaptureSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a video, a folder of photographs, a COLMAP project, a transforms.json (or its"
        " folder), or a RealEstate10K camera file beside its video",
    )
    out_argument(parser, "folder for the capture")
    capture_arguments(parser)


def capture_arguments(parser: Any) -> None:
    """Declare how pictures become a capture."""
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="at most so many frames of a video, the sharpest of each part (default: 150)",
    )
    parser.add_argument(
        "--longest-side",
        type=int,
        metavar="PIXELS",
        help="shrink larger pictures to this (default: 1600)",
    )
    parser.add_argument(
        "--camera-model",
        metavar="NAME",
        help="lens that is looked for: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL or OPENCV"
        " (default: SIMPLE_PINHOLE for a video, SIMPLE_RADIAL for photographs)",
    )
    parser.add_argument(
        "--one-camera",
        action=argparse.BooleanOptionalAction,
        help="whether all photographs are of one camera with one zoom (default: those of one size"
        " and one EXIF focal length; a video is)",
    )
    parser.add_argument(
        "--no-check-poses",
        action="store_true",
        help="take given poses although the pictures speak against them",
    )
    parser.add_argument(
        "--keep-poses",
        action="store_true",
        help="leave given poses as they are (default: fit them to the pictures where that helps)",
    )
    seed_argument(parser, "all random choices")


def capture_settings(args: argparse.Namespace) -> "CaptureSettings":
    """What :func:`capture_arguments` were given."""
    from mmdiff_video.scenes.capture.settings import CaptureSettings

    return CaptureSettings(
        **given(args, "frames", "longest_side", "camera_model", "one_camera"),
        check_poses=not args.no_check_poses,
        refine_poses=not args.keep_poses,
        seed=args.seed,
    )


def run(args: argparse.Namespace) -> None:
    """Make the capture."""
    from mmdiff_video.scenes.capture.make import make_capture
    from mmdiff_video.scenes.progress import stage_line

    with stage_line() as progress:
        made = make_capture(args.source, args.out, capture_settings(args), progress=progress)
    print(made.report.lines(args.out))
