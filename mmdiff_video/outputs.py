"""Where commands write: one command at a time, nothing left unfinished, nothing outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_partials, remove_partials_of
from mmdiff_video.locks import sole_writer


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
