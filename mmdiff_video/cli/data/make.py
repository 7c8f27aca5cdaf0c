"""Draw procedural rooms into a folder, on all cores.

examples:
  mmdiff-video data make rooms --out rooms --scenes 200                  posed clips
  mmdiff-video data make rooms --out rooms-voc --scenes 2000 --layout voc --size 256

Layouts: re10k (cameras, mp4), voc (labels), nyu (depth), duts (saliency), folders (all
labels); captions.jsonl beside each. A run that was stopped goes on with the same command.
"""

import argparse

from mmdiff_video.cli._arguments import out_argument, seed_argument, size_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    parser.add_argument("name", choices=("rooms",), help="what to draw")
    out_argument(parser, "folder for the data")
    parser.add_argument("--scenes", type=int, default=100, metavar="N", help="rooms (default: 100)")
    seed_argument(parser, "the rooms")
    parser.add_argument(
        "--layout",
        default="re10k",
        metavar="NAME",
        help="re10k, voc, nyu, duts or folders (default: re10k)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="frames of each room (default: 40 in layout re10k, 1 in the others)",
    )
    size_argument(parser, "pixels (default: 256)", default=(256, 256))
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes that draw (default: one per core)"
    )


def run(args: argparse.Namespace) -> None:
    """Draw."""
    from mmdiff_video.rooms.make import make_rooms

    make_rooms(
        args.out,
        layout=args.layout,
        scenes=args.scenes,
        seed=args.seed,
        frames=args.frames,
        width=args.width,
        height=args.height,
        jobs=args.jobs,
    )
    print(f"{args.scenes} rooms in layout {args.layout} are in {args.out}")
