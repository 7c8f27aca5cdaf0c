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
from io import TextIOWrapper
from types import ModuleType
from typing import Any

from mmdiff_video.errors import InputError
from mmdiff_video.files import DISK_REFUSES
from mmdiff_video.version import __version__

_OF_FILES = {
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    *DISK_REFUSES,
}
"""What the system answers where a file or folder is to blame, not the program."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for a user's mistake)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # file names may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "PIL", "matplotlib", "torch.distributed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        _require_text(args)
        return args.run(args) or 0
    except (OSError, ValueError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _sentence(error: Exception) -> str | None:
    """Say what is wrong with the user's words or files; None: the program is to blame."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _OF_FILES:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    if isinstance(error, UnicodeEncodeError):
        near = error.object[max(error.start - 40, 0) : error.end + 40]
        return f"'{near}' cannot be written in {error.encoding}: rename the file, or mend the text"
    if type(error) is ValueError and "null byte" in str(error):
        return (
            "the name of a file holds a null byte, which none can: look into the config and lists"
        )
    return None


def _require_text(args: argparse.Namespace) -> None:
    """Refuse words whose bytes are no text; file names, which are ``Path``, may be any bytes."""
    for name, value in vars(args).items():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and any("\ud800" <= letter <= "\udfff" for letter in word):
                raise InputError(f"{name}: '{word}' is not UTF-8 text")


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
