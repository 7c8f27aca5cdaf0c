"""The ``mmdiff-video`` command.

A verb is one file here, found by its name: ``train_3dgs.py`` is ``train-3dgs``; a folder is a verb
with actions. Its docstring is its help text (the first line in the list of commands, the rest below
the arguments), ``add_arguments`` declares what it takes and ``run`` calls what does the work. Names
that start with an underscore are no verbs, and a verb with ``HIDDEN`` is not listed. Heavy imports
happen inside ``run``, so that ``--help`` answers at once.
"""

import argparse
import errno
import importlib
import logging
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mmdiff_video.errors import InputError
from mmdiff_video.version import __version__

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
    _add_verbs(parser, sys.modules[__name__], "commands")
    return parser


def _add_verbs(parser: argparse.ArgumentParser, package: ModuleType, title: str) -> None:
    verbs = parser.add_subparsers(
        title=title, required=True, metavar=title.removesuffix("s").upper()
    )
    for found in pkgutil.iter_modules(package.__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        summary, _, details = (module.__doc__ or "").partition("\n")
        listed: dict[str, Any] = {"help": summary[:1].lower() + summary[1:].removesuffix(".")}
        if getattr(module, "HIDDEN", False):
            listed.clear()
        verb = verbs.add_parser(
            found.name.replace("_", "-"),
            description=summary,
            epilog=details.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **listed,
        )
        if found.ispkg:
            _add_verbs(verb, module, "actions")
        else:
            module.add_arguments(verb)
            verb.set_defaults(run=module.run)
