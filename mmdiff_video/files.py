"""Write files so that a reader never meets half of one: write aside, flush to disk, rename."""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmdiff_video.errors import InputError

PARTIAL = ".partial-"
"""Every unfinished file or folder has a name that starts with this."""

_STALE_SECONDS = 3600
"""An unfinished file this old belongs to a process that died."""


_LONGEST_NAME = 200
"""Bytes of a name; file systems take 255, and an ending or ``.partial-`` needs some."""


@contextmanager
def write_aside(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give a path to write to; on a clean exit it becomes ``path``, on an exception it is deleted.

    The parent folder is made. The temporary file lies beside ``path`` and keeps its suffix, because
    picture and video writers choose the format by it.

    Args:
        path: what readers see, old or new but never half.
        flush: wait for the disk, so that this holds through a power cut too.

    Raises:
        FileNotFoundError: the body did not write the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        yield aside
        if flush:
            _flush(aside)
        os.replace(aside, path)
        if flush:
            _flush(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on a clean exit it becomes ``path``, which must not exist yet.

    On an exception the folder is deleted; a killed process leaves one that
    :func:`remove_partials` clears.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.mkdir()
    try:
        yield aside
        for file in aside.rglob("*"):
            _flush(file)
        _flush(aside)
        os.replace(aside, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder so that a reader meets all of it or nothing; of a link, the link alone."""
    aside = _aside(path)
    os.replace(path, aside)
    _remove(aside)


def remove_partials(folder: Path) -> None:
    """Delete what killed processes left unfinished in a folder that nobody writes to now."""
    for left in folder.glob(f"{PARTIAL}*"):
        _remove(left)


def refuse_links(folder: Path) -> None:
    """Refuse a folder from which a link leads elsewhere, before anything is written through it.

    Unfinished files that are links are left to :func:`remove_partials`.

    Raises:
        InputError: names the link.
    """
    for above, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(above, name)
            if path.is_symlink() and not name.startswith(PARTIAL):
                raise InputError(
                    f"'{path}' is a link to '{os.readlink(path)}', and what is written in"
                    f" '{folder}' must stay there: remove the link, or choose another folder"
                )


def remove_stale_partials(folder: Path) -> None:
    """Delete the old unfinished files of a folder that others may be writing to."""
    for left in folder.glob(f"{PARTIAL}*"):
        # finished, or removed by another process; or somebody else's, and not ours to remove
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def file_name(key: str) -> str:
    """Make a key, whatever is in it, the name of one file, without a suffix."""
    name = "".join(c if c.isalnum() or c in "-_. " else "_" for c in key)
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{name[:40]}-{digest}"


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        InputError: it is not UTF-8; names the file and the line.
        OSError: it is missing or cannot be read.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"'{path}', line {line}: not UTF-8 text; save it in that encoding"
        ) from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it is not JSON, holds a NaN or infinity, or is nested beyond sense.
        OSError: it is missing or cannot be read.
    """
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path}' is not readable JSON: {error}") from None


def parse_json(text: str) -> Any:
    """Parse JSON; unlike the standard library's parser, every failure is a ``ValueError``.

    Raises:
        ValueError: it is not JSON, holds a NaN or infinity, or is nested beyond sense.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON in one step.

    Raises:
        ValueError: a NaN or infinity, which JSON has no word for: write None instead.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _remove(path: Path) -> None:
    """Delete a folder or a file; of a link, the link and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}{path.stem}-{secrets.token_hex(4)}{path.suffix}")


def _flush(path: Path) -> None:
    """Push a file, or a folder's list of names, to the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows cannot open a folder
        return
    try:
        # some network file systems refuse to flush a folder
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
