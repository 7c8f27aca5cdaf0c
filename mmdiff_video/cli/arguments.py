"""What the verbs share: how they are declared, and flags that stand for config overrides."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmdiff_video.config import Override

SIDES = "pixels, a multiple of 16"
FRAMES = "1, or with Wan 1 + a multiple of 4"
"""What fits the named backbones; a refused size names the nearest that does."""

OVERRIDES_HELP = "config overrides, for instance train.steps=500 decoder.width=256"


def verb(verbs, name: str, run, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Declare a verb that runs ``run``; ``details`` stand below its arguments."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def size(text: str) -> tuple[int, int]:
    """Read 256 or 320x180 as width and height."""
    width, _, height = text.partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 256 or 320x180") from None


def out_folder(text: str) -> Path:
    """Read a folder to write into, and find out before the work whether that can be done."""
    path = Path(text)
    try:
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
    except OSError as error:  # a folder above that may not be entered, a name too long
        raise argparse.ArgumentTypeError(f"'{text}': {error.strerror}") from None
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"'{there}' is a file, where a folder is wanted")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"'{there}' cannot be written to")
    return path


def out_file(*suffixes: str) -> Callable[[str], Path]:
    """Make an argument type: a file to write, whose name ends in one of the suffixes."""

    def check(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"'{text}' must end in {' or '.join(suffixes)}")
        out_folder(str(path.parent))
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"'{text}' is a folder, where a file is wanted")
        return path

    return check


def task_arguments(
    parser: argparse.ArgumentParser,
    *,
    data: str = "re10k, rooms (default)",
    backbone: str = "nano-wan",
) -> None:
    """Declare data set, backbone, config file and overrides of a task."""
    parser.add_argument("--data", metavar="NAME", help=f"a data set: {data}")
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="the folder it lies in; rooms needs none: it is made on the spot",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help=f"{backbone} (default), wan, flux, a hub id, a local folder...",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a YAML file, or the name of a shipped one in configs/"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES_HELP)


def training_arguments(parser: argparse.ArgumentParser, reader: str) -> None:
    """Declare what the ``reader``, a head or decoder, is trained on, and its run folder."""
    parser.add_argument(
        "--input",
        choices=("features", "latent"),
        help=f"what the {reader} reads: aggregated taps (default) or the latent (the baseline)",
    )
    parser.add_argument("--out", type=out_folder, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run folder of train-3dgs, and what of its data is meant."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder of train-3dgs")
    parser.add_argument("--split", default="test", help="train or test (default)")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="where the data lies now, if it moved"
    )


def overrides(args: argparse.Namespace) -> "list[Override]":
    """Turn the flags into config overrides; what is typed as key=value wins over them."""
    flags = {
        "data.name": args.data,
        "data.root": None if args.data_root is None else str(args.data_root),
        "backbone.name": args.backbone,
        "input": getattr(args, "input", None),
    }
    given = [(key, value) for key, value in flags.items() if value is not None]
    return [*given, *args.overrides]
