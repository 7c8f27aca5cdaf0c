"""Convert a scene to .ply, .spz and .splat, upright and centred.

example:
  mmdiff-video convert kitchen/ kitchen.ply kitchen.spz kitchen.splat

IN is a file of Gaussians, or the folder of a fitted scene, whose cameras say what is up. Viewers
take y as down, and the origin as the middle; --keep-world leaves the world as it is, for programs
that have the cameras too.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import out_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "source", type=Path, metavar="IN", help="a .ply, .spz or .splat, or the folder of a scene"
    )
    parser.add_argument(
        "outs",
        type=out_file(".ply", ".spz", ".splat"),
        nargs="+",
        metavar="OUT",
        help="a file to write, in the format that its ending says",
    )
    parser.add_argument(
        "--cameras",
        type=Path,
        metavar="PATH",
        help="COLMAP project or transforms.json whose cameras say what is up (default: those in"
        " the folder of the scene)",
    )
    parser.add_argument(
        "--keep-world", action="store_true", help="do not turn the scene upright and centre it"
    )


def run(args: argparse.Namespace) -> None:
    """Convert."""
    from mmdiff_video.scenes.convert import convert

    print(convert(args.source, args.outs, cameras=args.cameras, keep_world=args.keep_world))
