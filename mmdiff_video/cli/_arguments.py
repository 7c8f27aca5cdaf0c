"""What the verbs share: arguments that mean the same everywhere, and how their values are read."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmdiff_video.config import Override

SIDES = "each side a multiple of 16"
FRAMES = "1, or with Wan 1 + a multiple of 4"
"""What the named backbones take, for help texts; a refused size names the nearest that fits."""

BACKBONES = "nano-wan, nano-flux, wan, wan-14b, flux, flux-schnell, sd3.5-medium, sd3.5-large"
"""Registered backbones, for help texts (to look them up would import torch)."""


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
        there = next(p for p in (path, *path.absolute().parents) if p.exists() or p.is_symlink())
    except OSError as error:  # a folder above that may not be entered, a name too long
        raise argparse.ArgumentTypeError(f"'{text}': {error.strerror}") from None
    if not there.is_dir():
        found = "a file" if there.exists() else "a link that leads nowhere"
        raise argparse.ArgumentTypeError(f"'{there}' is {found}, where a folder is wanted")
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


def names(text: str) -> list[str]:
    """Read A,B,C."""
    return text.split(",")


def square(text: str) -> int:
    """Read the size of a square picture: 160, or 160x160."""
    width, height = size(text)
    if width != height:
        raise argparse.ArgumentTypeError(f"'{text}' is no square: give one number of pixels")
    return width


class _StoreSize(argparse.Action):
    """Store WxH as ``width`` and ``height``, as the older flags of these names do."""

    def __call__(self, parser, namespace, values: Any, option_string=None) -> None:
        namespace.width, namespace.height = values


def size_argument(
    parser: argparse.ArgumentParser,
    help: str,
    *,
    default: tuple[int, int] | None = None,
    old_spelling: bool = False,
) -> None:
    """Declare ``--size``, which gives ``width`` and ``height``.

    Args:
        parser: of the verb.
        help: what the size is of, and its default.
        default: width and height.
        old_spelling: whether ``--height`` and ``--width`` are taken too, as in version 0.1.0.
    """
    parser.add_argument(
        "--size",
        type=size,
        action=_StoreSize,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        metavar="WxH",
        help=f"{help}; one number for a square",
    )
    width, height = default or (None, None)
    parser.set_defaults(width=width, height=height)
    if old_spelling:
        for side in ("--height", "--width"):
            parser.add_argument(side, type=int, help=argparse.SUPPRESS)


def seed_argument(parser: Any, of: str) -> None:
    """Declare ``--seed``."""
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help=f"seed of {of} (default: 0)"
    )


def out_argument(
    parser: argparse.ArgumentParser, help: str, *, metavar: str = "DIR", default: Path | None = None
) -> None:
    """Declare ``--out``, a folder; required unless it has a default."""
    parser.add_argument(
        "--out",
        type=out_folder,
        required=default is None,
        default=default,
        metavar=metavar,
        help=help if default is None else f"{help} (default: {default})",
    )


def data_root_argument(parser: Any, help: str = "") -> None:
    """Declare ``--data-root``."""
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help=help
        or "the folder it lies in (default: $MMDIFF_DATA/NAME; rooms needs none: it is made on the"
        " spot)",
    )


def run_argument(parser: argparse.ArgumentParser, verb: str, *, data_root: bool = True) -> None:
    """Declare the run folder of a verb, and where its data lies."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help=f"a run folder of {verb}")
    if data_root:
        data_root_argument(
            parser, "the folder the data lies in now (default: where the run found it)"
        )


def split_argument(parser: Any, of: str) -> None:
    """Declare ``--split`` of posed clips."""
    parser.add_argument("--split", metavar="NAME", help=f"{of}: train or test (default: test)")


def clip_choice_arguments(parser: Any) -> None:
    """Declare which posed clips are scored."""
    split_argument(parser, "split of the data that is scored")
    parser.add_argument(
        "--max-clips",
        type=int,
        metavar="N",
        help="score a seeded choice of N clips (default: as many as the config or the card says)",
    )
    parser.add_argument(
        "--eval-index",
        type=Path,
        metavar="FILE",
        help="pixelSplat's evaluation index, JSON (default: the config's, or evenly spread views)",
    )


def image_choice_arguments(parser: Any) -> None:
    """Declare which labelled pictures are scored."""
    parser.add_argument(
        "--max-images",
        type=int,
        metavar="N",
        help="score a seeded choice of N pictures (default: as many as the config says, or all)",
    )


def _config_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="a YAML file, or the name of a shipped one in configs/ (default: the one for the"
        f" {default})",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings of the config, for instance train.steps=500 (default: none)",
    )


def reading_arguments(parser: argparse.ArgumentParser, *, data: str, backbone: str) -> None:
    """Declare data set, backbone, config file and overrides of a training.

    Args:
        parser: of the verb.
        data: names of data sets.
        backbone: the default.
    """
    parser.add_argument(
        "--data", metavar="NAME", help=f"data set: {data} (default: rooms, or the config's)"
    )
    data_root_argument(parser)
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help=f"frozen backbone: {BACKBONES}, a hub id or a local folder (default: {backbone}, or"
        " the config's)",
    )
    _config_arguments(parser, "backbone's scale")


def training_arguments(parser: argparse.ArgumentParser, reader: str) -> None:
    """Declare what the ``reader``, a head or decoder, is trained on, and its run folder."""
    parser.add_argument(
        "--input",
        choices=("features", "latent"),
        help=f"what the {reader} reads: aggregated taps, or the latent, which is the baseline"
        " to compare with (default: features, or the config's)",
    )
    _run_folder_arguments(parser)


def pretraining_arguments(parser: argparse.ArgumentParser, start: str) -> None:
    """Declare what the parts of pretraining take; ``start``: what ``--init`` can be."""
    parser.add_argument("--backbone", required=True, metavar="NAME", help="nano-wan or nano-flux")
    _config_arguments(parser, "backbone")
    _run_folder_arguments(parser)
    parser.add_argument(
        "--init",
        type=Path,
        metavar="DIR",
        help=f"start from the weights of {start} (default: from fresh weights)",
    )


def _run_folder_arguments(parser: argparse.ArgumentParser) -> None:
    out_argument(parser, "the run folder", metavar="RUN")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")


def given(args: argparse.Namespace, *flags: str) -> dict[str, Any]:
    """The values of the flags that were given, by name."""
    return {flag: getattr(args, flag) for flag in flags if getattr(args, flag) is not None}


def overrides(args: argparse.Namespace) -> "list[Override]":
    """Turn the flags into config overrides; what is typed as key=value wins over them."""
    flags = {
        "data.name": args.data,
        "data.root": None if args.data_root is None else str(args.data_root),
        "backbone.name": args.backbone,
        "input": getattr(args, "input", None),
    }
    found = [(key, value) for key, value in flags.items() if value is not None]
    return [*found, *args.overrides]
