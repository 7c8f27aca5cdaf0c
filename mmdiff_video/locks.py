"""One writer at a time for a folder or a file, by a lock that dies with its process."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmdiff_video.errors import InputError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2

_held: set[Path] = set()
"""What this process holds: the system would grant a lock twice to one process."""


@contextmanager
def sole_writer(path: Path, doing: str) -> Iterator[None]:
    """Hold a folder or a file for this process; a second process is refused, not made to wait.

    The lock is the operating system's on the file ``.lock`` in the folder, or ``.NAME.lock`` beside
    the file. It ends with the process, however that ends, even where workers that it forked go on
    for a moment. The empty file stays: deleting it would let two processes hold locks on different
    files of that name.

    Args:
        path: of a folder that exists, or of a file that may not exist yet.
        doing: what this process does there, for the message of the one that is refused.

    Raises:
        InputError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    handle = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        key = name.resolve()
        if key in _held or not _lock(handle):
            raise InputError(
                f"'{path}' is in use by another process ({doing}): wait for it to end, stop it, or"
                " choose another place"
            )
        _held.add(key)
        try:
            yield
        finally:
            _held.discard(key)
    finally:
        os.close(handle)


@contextmanager
def writer_in_turn(path: Path, doing: str) -> Iterator[None]:
    """Hold a folder or a file as :func:`sole_writer` does, after whoever holds it now."""
    with ExitStack() as stack:
        waited = False
        while True:
            try:
                stack.enter_context(sole_writer(path, doing))
                break
            except InputError:
                if not waited:
                    logger.info("waiting for another process (%s) at '%s'", doing, path)
                waited = True
                time.sleep(_POLL_SECONDS)
        yield


def _lock(handle: int) -> bool:
    """Take the lock of an open file; False where another process has it."""
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        # a record lock, which forked children do not share
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks, as some network disks
        return True
    return True
