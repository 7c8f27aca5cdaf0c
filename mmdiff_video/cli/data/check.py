"""Validate every clip's cameras and video, or every picture and its labels.

Prints a table, writes report.json into --out, and draws the camera paths of clips there. Of clips
every frame is decoded, and every span is tried that the data set's card allows: what training or
evaluation would leave out is listed with its reason. Exit status 2 when nothing is usable.

NAME may also be the path of a capture (a COLMAP project, a transforms.json or its folder): its
pictures are read, and its poses held against what they show. Exit status 2 when they do not agree.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import data_root_argument, out_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    parser.add_argument("name", metavar="NAME", help="a data set, for instance re10k; or a capture")
    data_root_argument(parser)
    out_argument(parser, "folder for the report and the picture", default=Path("data-check"))


def run(args: argparse.Namespace) -> int:
    """Check."""
    from mmdiff_video.scenes.capture.check import check_capture, is_capture
    from mmdiff_video.scenes.progress import stage_line

    if is_capture(args.name):
        with stage_line() as progress:
            check = check_capture(Path(args.name), args.out, progress)
        print(check.table())
        return 0 if check.usable and check.problem is None else 2
    from mmdiff_video.rooms.check import check_any

    report = check_any(args.name, args.data_root, args.out)
    return 0 if report.usable else 2
