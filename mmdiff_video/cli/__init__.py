"""The ``mmdiff-video`` command: one thin function per verb, in modules by subject, no logic.

Heavy imports happen inside the verbs, so that ``--help`` answers at once.
"""

import argparse
import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdiff_video import __version__
from mmdiff_video.cli import backbones, data, dense, pretrain, reconstruction
from mmdiff_video.cli.arguments import out_folder, verb
from mmdiff_video.errors import InputError

_OF_FILES = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""What the system answers where a file or folder is to blame, not the program."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for a user's mistake)."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "PIL", "matplotlib", "torch.distributed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return args.run(args) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _OF_FILES:
            raise
        print(f"error: {_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _sentence(error: OSError) -> str:
    """Say what the system refused, and for which file where it says so."""
    return f"{error.strerror}: '{error.filename}'" if error.filename else f"{error.strerror}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, letting ``key=value`` stand before, between and after the flags."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    stray = [r for r in rest if r.startswith("-") or "=" not in r or not hasattr(args, "overrides")]
    if stray:
        parser.error(f"unrecognized arguments: {' '.join(stray)}")
    if rest:
        args.overrides += rest
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmdiff-video",
        description="Turn frozen diffusion transformers into 3D and dense-perception models.",
        epilog="Start with `mmdiff-video demo`, which needs no download, or `mmdiff-video doctor`.",
    )
    parser.add_argument("--version", action="version", version=f"mmdiff-video {__version__}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for subject in (reconstruction, dense, backbones, data, pretrain):
        subject.add_verbs(verbs)
    verb(verbs, "doctor", _doctor, "say what works on this machine and how to mend what does not")
    demo = verb(
        verbs,
        "demo",
        _demo,
        "the main job on procedural rooms: no download, no GPU, minutes",
        "Leaves a metrics table, a PLY, an mp4 and side-by-side pictures in --out.",
    )
    demo.add_argument(
        "--out",
        type=out_folder,
        default=Path("demo-output"),
        metavar="DIR",
        help="(default: demo-output)",
    )
    return parser


def _doctor(args: argparse.Namespace) -> int:
    from mmdiff_video.doctor import run_doctor

    report, healthy = run_doctor()
    print(report)
    return 0 if healthy else 1


def _demo(args: argparse.Namespace) -> None:
    from mmdiff_video.demo import run_demo

    run_demo(args.out)
