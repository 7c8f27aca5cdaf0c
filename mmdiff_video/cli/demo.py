"""Do the main job on procedural rooms: no download, no GPU, minutes.

Leaves a metrics table, a PLY, an mp4 and side-by-side pictures in --out.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import out_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    out_argument(parser, "folder for all that it makes", default=Path("demo-output"))


def run(args: argparse.Namespace) -> None:
    """Run it."""
    from mmdiff_video.demo import run_demo

    run_demo(args.out)
