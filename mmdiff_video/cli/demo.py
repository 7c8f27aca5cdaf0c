"""Do the main job on procedural rooms: no download, no GPU, minutes.

Trains the 3DGS decoder twice, on the latent and on features, and leaves tables of scores, pictures
of the two side by side, a flight (mp4) and its Gaussians (PLY) in --out. A demo that was stopped
goes on with the same command.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import out_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    out_argument(parser, "folder for all that it makes", default=Path("demo-output"))


def run(args: argparse.Namespace) -> None:
    """Run the demo."""
    from mmdiff_video.demo import run_demo

    run_demo(args.out)
