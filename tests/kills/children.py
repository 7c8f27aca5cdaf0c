"""Run a command in a forked child, and let it die, or its disk be full, at a chosen moment.

The moments are counted in file-system operations below one folder: what Python opens to write,
renames, removes, makes. The child dies right before one of them, which is right after the one
before it.
"""

import ctypes
import errno
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_PATIENCE = 600.0
"""Seconds until a child counts as one that hangs."""

_ORPHANS = 15.0
"""Seconds that the processes of a killed command have to end."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.rename": 0, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0}
"""Audit event -> place of the path among its arguments."""


class Fault(NamedTuple):
    """What befalls a child.

    Attributes:
        kind: ``none``; ``kill`` before operation ``at``; ``late``: kill ``at`` seconds after its
            start; ``full``: no room for anything new from operation ``at`` on; ``small``: a disk of
            ``at`` bytes, which is full in the middle of a file; ``read-only``: of the folder's
            permissions, which root obeys like others.
        at: see ``kind``.
    """

    kind: str = "none"
    at: float = 0.0


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
        status: exit status; negative: the signal that killed it.
        seconds: from its start.
        operations: that it began below the folder.
        orphans: processes that it left behind.
        log: what it printed.
    """

    status: int
    seconds: float
    operations: int
    orphans: Sequence[str]
    log: str


def run_child(
    work: Callable[[], int], folder: Path, log: Path, fault: Fault | None = None
) -> Ended:
    """Run ``work`` in a child, whose operations below ``folder`` count, and wait for its end."""
    fault = fault or Fault()
    count = mmap.mmap(-1, 8)
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _live(work, folder, log, fault, count)
    os_status = _wait(child, begin, fault)
    seconds = time.monotonic() - begin
    orphans = _orphans(child)
    status = os.waitstatus_to_exitcode(os_status)
    return Ended(status, seconds, int.from_bytes(count[:8], "little"), orphans, log.read_text())


def _live(work: Callable[[], int], folder: Path, log: Path, fault: Fault, count: mmap.mmap) -> None:
    """Be the child; never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        if fault.kind == "read-only":
            _obey_permissions()
        sys.addaudithook(_hook(folder, fault, count))
        status = work()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _hook(folder: Path, fault: Fault, count: mmap.mmap) -> Callable[[str, tuple[Any, ...]], None]:
    """Count operations, and let the fault befall."""
    below, mine = str(folder), os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & _WRITES:
                return
        elif event in _EVENTS:
            path = arguments[_EVENTS[event]]
        else:
            return
        if isinstance(path, int) or os.getpid() != mine:
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(below):
            return
        number = int.from_bytes(count[:8], "little") + 1
        count[:8] = number.to_bytes(8, "little")
        if fault.kind == "kill" and number == fault.at:
            os.kill(mine, signal.SIGKILL)
        if fault.kind == "full" and number >= fault.at and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return hook


def _wait(child: int, begin: float, fault: Fault) -> int:
    deadline = fault.at if fault.kind == "late" else _PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() - begin > deadline:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.005)


def _orphans(group: int) -> list[str]:
    """Processes of the child's group that go on after it; they are ended."""
    deadline = time.monotonic() + _ORPHANS
    while left := _members(group):
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
            return left
        time.sleep(0.05)
    return []


def _members(group: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
            if int(words[2]) == group and words[0] not in "ZX":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    return found


def _obey_permissions() -> None:
    """Take from root the right to write where no permission says so (Linux)."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE, effective
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
