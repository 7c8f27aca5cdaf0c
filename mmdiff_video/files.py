"""Write files so that a reader never meets half of one: write aside, flush to disk, rename."""

import errno
import hashlib
import json
import os
import re
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

_TOKEN_BYTES = 4

_KEPT = 32
"""How many characters of a name an unfinished file keeps, from the end, where the suffix is: the
whole name might leave no room for more."""

_STALE_SECONDS = 3600
"""An unfinished file this old belongs to a process that died."""

DISK_REFUSES = frozenset(
    {errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE}
)
"""What the system answers where a disk takes nothing more, whichever file it is asked for."""

_PROBE_BYTES = 1 << 20
"""What a disk must take to count as one that takes more."""

_LONGEST_NAME = 150
"""Bytes of a file name made from a key: with an ending still below the 255 of file systems."""


@contextmanager
def write_aside(path: Path, *, flush: bool = True, optional: bool = False) -> Iterator[Path]:
    """Give a path to write to; on a clean exit it becomes ``path``, on an exception it is deleted.

    The parent folder is made. The temporary file lies beside ``path`` and keeps its suffix, because
    picture and video writers choose the format by it.

    Args:
        path: what readers see, old or new but never half.
        flush: wait for the disk, so that this holds through a power cut too.
        optional: whether the body may leave the file unwritten; ``path`` then stays as it is.

    Raises:
        OSError: the disk refused, by whichever writer and exception the body found that out; has
            an ``errno``, and ``path`` as its ``filename``. The old file stays.
        FileNotFoundError: the body did not write the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with _named(aside, path):
            yield aside
            if optional and not aside.exists():
                return
            if flush:
                _flush(aside)
            os.replace(aside, path)
            if flush:
                _flush(path.parent)
    finally:
        with suppress(OSError):  # what went wrong before is what counts
            aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on a clean exit it becomes ``path``, which must not exist yet.

    On an exception the folder is deleted; a killed process leaves one that
    :func:`remove_partials` clears.

    Raises:
        OSError: the disk refused, as in :func:`write_aside`; the ``filename`` is that of ``path``,
            or of the file in it that could not be written, where that is known.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with _named(aside, path):
            aside.mkdir()
            yield aside
            for file in aside.rglob("*"):
                _flush(file)
            _flush(aside)
            os.replace(aside, path)
            _flush(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _named(aside: Path, path: Path) -> Iterator[None]:
    """Turn a disk's refusal of ``aside`` into an ``OSError`` about ``path``."""
    try:
        yield
    except InputError:
        raise
    # numpy, safetensors, torch, Pillow and PyAV each have an exception of their own for a full disk
    except Exception as error:
        found = _refusal(error, aside)
        if found is None:
            raise
        code, file = found
        raise OSError(code, os.strerror(code), str(path / file.relative_to(aside))) from error


def _refusal(error: Exception, aside: Path) -> tuple[int, Path] | None:
    """Tell the code of a refusal and the file, ``aside`` or one in it; None: another error."""
    if not isinstance(error, OSError) or error.errno is None:
        return _disk_refusal(aside)
    if isinstance(error.filename, str | bytes):
        file = Path(os.fsdecode(error.filename).removeprefix("file:"))  # as FFmpeg is given names
        return (error.errno, file) if file.is_relative_to(aside) else None
    return (error.errno, aside) if error.errno in DISK_REFUSES else None


def _disk_refusal(aside: Path) -> tuple[int, Path] | None:
    """Ask the disk itself, for writers that tell that it refused but not how."""
    try:
        with (aside / "probe" if aside.is_dir() else aside).open("ab") as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return (error.errno, aside) if error.errno in DISK_REFUSES else None
    return None


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


def remove_partials_of(path: Path) -> None:
    """Delete what killed processes left unfinished of a file that nobody writes now."""
    for left in path.parent.glob(f"{PARTIAL}*"):
        if left.name[len(PARTIAL) + 2 * _TOKEN_BYTES :] == f"-{path.name[-_KEPT:]}":
            left.unlink(missing_ok=True)


def remove_stale_partials(folder: Path) -> None:
    """Delete the old unfinished files and folders in a folder that others may be writing to."""
    for left in folder.glob(f"{PARTIAL}*"):
        # finished, or removed by another process; or somebody else's, and not ours to remove
        with suppress(OSError):
            newest = max(path.lstat().st_mtime for path in [left, *left.rglob("*")])
            if time.time() - newest > _STALE_SECONDS:
                _remove(left)


def file_name(key: str) -> str:
    """Turn a key into the name of a file, without ending: another one for every key.

    Keys come from data sets and users, and may hold slashes, line breaks and more than a name has
    room for.
    """
    plain = re.sub(r"[\x00-\x1f\x7f/\\:*?\"<>|\ud800-\udfff]", "_", key)
    name = plain.encode()[:_LONGEST_NAME].decode(errors="ignore")
    if name and name == key and not name.startswith("."):
        return name
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{name.lstrip('.')}-{digest}"


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
    r"""Write UTF-8 text in one step.

    Bytes of file names that are no UTF-8, which Python keeps as lone surrogates, are written as
    ``\udcNN``.
    """
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON in one step; file names of any bytes are read back as they were.

    Raises:
        ValueError: a NaN or infinity, which JSON has no word for: write None instead.
    """
    # outside ASCII there are only strings, where \udcNN is how JSON spells a lone surrogate
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _remove(path: Path) -> None:
    """Delete a folder or a file; of a link, the link and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}{secrets.token_hex(_TOKEN_BYTES)}-{path.name[-_KEPT:]}")


def _flush(path: Path) -> None:
    """Push a file, or a folder's list of names, to the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows cannot open a folder
        return
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot flush a folder; a file that is not on the disk is lost
        if error.errno in DISK_REFUSES:
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(handle)
