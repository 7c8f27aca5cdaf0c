"""Say where to get a data set and how it must lie."""

import argparse

from mmdiff_video.cli._arguments import out_file, seed_argument, square
from mmdiff_video.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    parser.add_argument("name", metavar="NAME", help="a data set, for instance re10k")
    sheet = parser.add_argument_group("a sheet of rooms, with depth, labels and captions")
    sheet.add_argument(
        "--sheet",
        type=out_file(".png", ".jpg", ".jpeg"),
        metavar="FILE.png",
        help="the picture to write (default: none)",
    )
    sheet.add_argument(
        "--scenes", type=int, default=6, metavar="N", help="rooms on the sheet (default: 6)"
    )
    seed_argument(sheet, "the rooms")
    sheet.add_argument(
        "--size",
        type=square,
        default=160,
        metavar="W",
        help="pixels of a side of each picture (default: 160)",
    )


def run(args: argparse.Namespace) -> None:
    """Show."""
    if args.sheet is None:
        from mmdiff_video.datasets.catalogue import show_dataset

        print(show_dataset(args.name))
        return
    if args.name != "rooms":
        raise InputError(f"--sheet draws generated data (rooms), not '{args.name}'")
    from mmdiff_video.rooms.sheet import draw_sheet

    draw_sheet(args.sheet, scenes=args.scenes, seed=args.seed, size=args.size)
