"""A trial: a command that a fault befalls, what it says, and what the same command makes of it."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kills.children import Ended, Fault, run_child
from kills.commands import Command
from kills.digests import differences, digest, leftovers


class Baseline(NamedTuple):
    """An undisturbed run.

    Attributes:
        digest: of all that it left.
        operations: on files, that it did.
        seconds: that it took.
        placed: bytes that were there before it.
        size: bytes of all that it left.
    """

    digest: dict[str, str]
    operations: int
    seconds: float
    placed: int
    size: int


class Trial(NamedTuple):
    """What became of a command that a fault befell.

    Attributes:
        fault: that befell it.
        reached: whether the command was still running when it was due.
        problems: what is not as it must be; empty: nothing.
    """

    fault: Fault
    reached: bool
    problems: list[str]


@dataclass
class Bench:
    """Runs one command again and again, each time in the same empty folder.

    Attributes:
        command: what is run.
        home: of the inputs, the output and the log; the output has one path in all runs, as paths
            stand in what is written.
    """

    command: Command
    home: Path

    def prepare(self) -> Baseline:
        """Make the inputs and run the command undisturbed.

        Raises:
            AssertionError: it fails by itself, or leaves something unfinished.
        """
        self.make_inputs()
        whole = self._run()
        placed = _size(self.inputs / self.command.within) if self.command.within else 0
        assert whole.status == 0, f"{self.command.name} fails undisturbed: {whole.log[-3000:]}"
        assert not leftovers(self.out), leftovers(self.out)
        assert not whole.orphans, whole.orphans
        size = _size(self.out)
        return Baseline(digest(self.out), whole.operations, whole.seconds, placed, size)

    def make_inputs(self) -> None:
        """Make the inputs.

        Raises:
            AssertionError: that fails.
        """

        def make() -> int:
            self.command.inputs(self.inputs)
            return 0

        made = self._child(make)
        assert made.status == 0, made.log[-3000:]

    def try_read_only(self) -> Trial:
        """Run where nothing can be written, and look at what it says."""
        fault = Fault("read-only")
        self.command.place(self.inputs, self.out)
        self.out.mkdir(exist_ok=True)
        self.out.chmod(0o555)
        ended = self._run(fault, resume=True)
        self.out.chmod(0o755)
        return Trial(fault, ended.status == 2, self._judge(ended, fault))

    def try_once(self, fault: Fault, baseline: Baseline, again: Fault | None = None) -> Trial:
        """Run with a fault, go on (the first time with another one perhaps), and compare."""
        problems: list[str] = []
        broken = self._run(fault)
        reached = broken.status != 0
        problems += self._judge(broken, fault)
        if again is not None:
            before = frozenset(leftovers(self.out))
            problems += self._judge(self._run(again, resume=True), again, before)
        ended = self._run(resume=True)
        if ended.status != 0:
            return Trial(fault, reached, [*problems, f"cannot go on: {_said(ended)}"])
        found = differences(digest(self.out), baseline.digest)
        if fault.kind in _FULL:  # a cache is filled as long as there is room
            found = [line for line in found if not line.startswith("no cache/")]
        left = [f"left unfinished: {name}" for name in leftovers(self.out)]
        orphans = [f"left running: {line}" for line in ended.orphans]
        return Trial(fault, reached, [*problems, *found, *left, *orphans])

    @property
    def inputs(self) -> Path:
        """Folder of the inputs."""
        return self.home / "inputs"

    @property
    def out(self) -> Path:
        """Where the output goes."""
        return self.home / "out"

    def _judge(
        self, ended: Ended, fault: Fault, before: Collection[str] = frozenset()
    ) -> list[str]:
        """What is wrong with how a fault ended a command; ``before`` was unfinished already."""
        problems = [f"left running after the {fault.kind}: {line}" for line in ended.orphans]
        if fault.kind in (*_FULL, "read-only") and ended.status != 0:
            errors = [line for line in ended.log.splitlines() if line.startswith("error: ")]
            if ended.status != 2 or len(errors) != 1 or "Traceback" in ended.log:
                problems.append(f"no sentence for a {fault.kind} disk: {_said(ended)}")
            left = set(leftovers(self.out)) - before
            problems += [f"left unfinished by it: {name}" for name in sorted(left)]
        if ended.status not in (0, 2, -9):
            problems.append(f"ends by itself: {_said(ended)}")
        return problems

    def _run(self, fault: Fault | None = None, *, resume: bool = False) -> Ended:
        if not resume:
            self.clear()
            if fault is not None and fault.kind == "small":
                self._mount(f"size={int(fault.at) + _PAGE}")
            self.command.place(self.inputs, self.out)
        elif os.path.ismount(self.out):
            self._mount("remount,size=1g")
        words = self.command.words(self.inputs, self.out)
        if not resume or not self.command.resume:
            return self._child(lambda: self.command.patched(words), fault)
        ended = self._child(lambda: self.command.patched([*words, *self.command.resume]), fault)
        if ended.status == 2 and "nothing to resume" in ended.log:  # it says so: nothing was begun
            return self._child(lambda: self.command.patched(words), fault)
        return ended

    def _child(self, work: Callable[[], int], fault: Fault | None = None) -> Ended:
        self.inputs.mkdir(parents=True, exist_ok=True)
        return run_child(work, self.out, self.home / "log", fault)

    def _mount(self, options: str) -> None:
        """Put a file system of its own where the output goes, or change the one that is there."""
        self.out.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.out)]
        subprocess.run(words, check=True, capture_output=True)

    def clear(self) -> None:
        """Remove the output."""
        if os.path.ismount(self.out):
            subprocess.run(["umount", str(self.out)], check=True)
        shutil.rmtree(self.out, ignore_errors=True)


_FULL = ("full", "small")

_PAGE = 4096


def _size(folder: Path) -> int:
    """Bytes of the pages of all files and folders below."""
    each = (path.lstat().st_size for path in folder.rglob("*"))
    return sum((size // _PAGE + 1) * _PAGE for size in each)


def can_mount(folder: Path) -> bool:
    """Whether this user may mount file systems, as root may outside of many containers."""
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(words, check=True, capture_output=True)
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def random_fault(rng: random.Random, baseline: Baseline, *, small: bool) -> Fault:
    """A kill, mostly right before an operation on files, else at any time; or a full disk.

    Args:
        rng: all chance.
        baseline: of the command.
        small: whether the full disk may be a file system of its own.
    """
    roll = rng.random()
    if roll < 0.55:
        return Fault("kill", rng.randint(1, baseline.operations))
    if roll < 0.8:
        return Fault("late", rng.uniform(0, baseline.seconds))
    if small and roll < 0.93:
        return Fault("small", rng.randint(baseline.placed, baseline.size))
    return Fault("full", rng.randint(1, baseline.operations))


def _said(ended: Ended) -> str:
    lines = [line for line in ended.log.splitlines() if line.strip()]
    return f"status {ended.status}: " + " / ".join(lines[-4:])[-900:]
