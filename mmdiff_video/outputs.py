"""Where commands write: one command at a time, nothing left unfinished, nothing outside."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_partials, remove_partials_of
from mmdiff_video.locks import sole_writer

_LONGEST = 150
"""Bytes of a file name made from a key: with an ending still below what file systems take."""


@contextmanager
def results_folder(out: Path, doing: str, *below: str) -> Iterator[None]:
    """Make a folder for results and hold it; what a killed command left unfinished there goes.

    Args:
        out: of the results; it may be a link.
        doing: see :func:`mmdiff_video.locks.sole_writer`.
        below: names of folders in it that get results too; made when they are written to.

    Raises:
        InputError: another process writes there, or a folder below is a link to somewhere else.
        OSError: it cannot be made or written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out, doing):
        remove_partials(out)
        for name in below:
            refuse_link(out / name)
            remove_partials(out / name)
        yield


@contextmanager
def scores_folder(run: Path, name: str) -> Iterator[Path]:
    """Hold the folder of an evaluation's pictures, and the JSON file of its name beside it.

    Args:
        run: the run folder.
        name: of the folder; of the file without its ending.

    Yields:
        The folder.

    Raises:
        InputError, OSError: as :func:`results_folder`.
    """
    refuse_link(run / name)
    with results_folder(run / name, "eval"):
        remove_partials_of(run / f"{name}.json")
        yield run / name


@contextmanager
def results_file(path: Path, doing: str) -> Iterator[None]:
    """Hold a file to write; what a killed command left unfinished of it goes.

    Raises:
        InputError: another process writes it.
        OSError: its folder cannot be made or written to.
    """
    with sole_writer(path, doing):
        remove_partials_of(path)
        yield


def refuse_link(folder: Path) -> None:
    """Refuse a folder of results that is a link: they would land where nobody asked for them.

    Raises:
        InputError: it is one.
    """
    if folder.is_symlink():
        raise InputError(
            f"'{folder}' is a link, and results stay inside '{folder.parent}': remove the link, or"
            " choose another place"
        )


def file_name(key: str) -> str:
    """Turn a key into the name of a file, without ending: another one for every key.

    Keys come from data sets, and may hold slashes, line breaks and more than a name has room for.
    """
    plain = re.sub(r"[\x00-\x1f\x7f/\\:*?\"<>|\ud800-\udfff]", "_", key)
    name = plain.encode()[:_LONGEST].decode(errors="ignore")
    if name and name == key and not name.startswith("."):
        return name
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{name.lstrip('.')}-{digest}"
