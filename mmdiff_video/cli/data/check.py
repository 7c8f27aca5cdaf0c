"""Validate every clip's cameras and video, or every picture and its labels.

Prints a table, writes report.json into --out, and draws the camera paths of clips there. Of clips
every frame is decoded, and every span is tried that the data set's card allows: what training or
evaluation would leave out is listed with its reason. Exit status 2 when nothing is usable.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import data_root_argument, out_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    parser.add_argument("name", metavar="NAME", help="a data set, for instance re10k")
    data_root_argument(parser)
    out_argument(parser, "folder for the report and the picture", default=Path("data-check"))


def run(args: argparse.Namespace) -> int:
    """Check."""
    from mmdiff_video.rooms.check import check_any

    report = check_any(args.name, args.data_root, args.out)
    return 0 if report.usable else 2
