"""Print the blocks of a backbone that can be tapped, and what a tap costs.

example:
  mmdiff-video taps wan --frames 49 --size 640x352

Loads no weights.
"""

import argparse

from mmdiff_video.cli._arguments import BACKBONES, FRAMES, SIDES, size_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    own = "(default: what the backbone is for)"
    parser.add_argument(
        "backbone",
        nargs="?",
        default="nano-wan",
        metavar="NAME",
        help=f"a backbone: {BACKBONES}, a hub id or a local diffusers folder (default: nano-wan)",
    )
    parser.add_argument("--frames", type=int, metavar="N", help=f"frames read: {FRAMES} {own}")
    size_argument(parser, f"pixels read, {SIDES} {own}", old_spelling=True)


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from mmdiff_video.backbones import describe_taps

    print(describe_taps(args.backbone, frames=args.frames, height=args.height, width=args.width))
