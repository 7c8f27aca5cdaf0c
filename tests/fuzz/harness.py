"""Cases from seeds, and what becomes of each: right, refused in one sentence, or a fault.

A target is a function that makes an input of its :class:`Case`, mostly a good one with something
broken in it, gives it to the product and asserts what the documentation promises of the answer.
Whatever else it raises is a fault, as are a hang, a crash of the process and a refusal that is not
one sentence. A case depends on its target and its seed alone.

Cases run in forked processes: a reader that takes the process with it, or all memory, is a fault
like others and not the end of the run.
"""

import faulthandler
import json
import os
import random
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 10.0
"""A case that takes longer hangs."""

_GRACE = 5.0
"""More seconds until a process that does not even notice its alarm is killed."""

_PATIENCE = 120.0
"""Seconds that preparing a target may take, on a machine with other work."""

_ROOM = 3 << 30
"""Bytes of address space that a case may ask for beyond what the process has already."""


class Fault(AssertionError):
    """The product did something that it does not promise."""


class _Hang(BaseException):
    """Not an ``Exception``, so that no reader takes it for a damaged file."""


class Result(NamedTuple):
    """What became of a case.

    Attributes:
        seed: of the case.
        outcome: ``right``, ``refused`` or ``fault``.
        seconds: that it took.
        detail: the refusal, or the traceback of a fault with what the case was.
    """

    seed: int
    outcome: str
    seconds: float
    detail: str


@dataclass
class Case:
    """One input: its chance, its folder, and what is known of it.

    Attributes:
        rng: the only chance that a target may use.
        folder: empty at first.
        notes: words on what the input is, for reports.
        refusal: the sentence in which the product refused it; None: it did not.
    """

    rng: random.Random
    folder: Path
    notes: list[str] = field(default_factory=list)
    refusal: str | None = None

    def note(self, *words: object) -> None:
        """Say what the input is, for reports."""
        self.notes.append(" ".join(map(str, words))[:300])

    @contextmanager
    def refusable(
        self,
        *kinds: type[Exception],
        naming: str | Sequence[str] = (),
        echoed: Sequence[str] = (),
    ) -> Iterator[None]:
        """Let the body end in one of these exceptions, whose message is one clear sentence.

        Args:
            kinds: the documented exceptions.
            naming: words of which the message must have at least one: the file, the item.
            echoed: names with line breaks in them, which the message may repeat.

        Raises:
            Fault: the message is empty, of several lines that are no list, or does not name the
                item.
        """
        try:
            yield
        except kinds as error:
            message = str(error)
            words = [naming] if isinstance(naming, str) else list(naming)
            require(message.strip() != "", f"{type(error).__name__} without a message")
            require_sentence(message, echoed)
            require(
                not words or any(word in message for word in words),
                f"the message names none of {words}: {message!r}",
            )
            self.refusal = message


def require(right: Any, words: str) -> None:
    """Assert what the documentation promises.

    Raises:
        Fault: it is not so.
    """
    if not right:
        raise Fault(words)


def require_sentence(message: str, echoed: Sequence[str] = ()) -> None:
    """Assert that a message is one line, but for a layout or a table after a line with a colon.

    Raises:
        Fault: it has more lines, beside those of the names ``echoed``.
    """
    shown = message
    for name in echoed:
        shown = shown.replace(name, repr(name))
    first, _, rest = shown.partition("\n")
    require(
        not rest.strip() or first.rstrip().endswith(":"), f"a message of several lines: {message!r}"
    )


@dataclass(frozen=True)
class Target:
    """A reader, a writer or a set of arguments.

    Attributes:
        name: of the function.
        run: takes a case; raises :class:`Fault` where the answer is wrong.
        cases: how many CI runs: a share of its seconds. The nightly command runs in proportion.
        prepare: what takes long and is done once, before the cases.
    """

    name: str
    run: Callable[[Case], None]
    cases: int
    prepare: Callable[[], object]


TARGETS: dict[str, Target] = {}
"""All targets by name; :mod:`fuzz.targets` fills it."""

RESULTS: dict[str, list[Result]] = {}
"""Of every target that has run in this process, for the table at the end."""


def target(
    *, cases: int = 40, prepare: Callable[[], object] = int
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Enter a function into the table of targets under its own name."""

    def enter(run: Callable[[Case], None]) -> Callable[[Case], None]:
        assert run.__name__ not in TARGETS
        TARGETS[run.__name__] = Target(run.__name__, run, cases, prepare)
        return run

    return enter


def run_cases(target: Target, seeds: Sequence[int], seconds: float = SECONDS) -> list[Result]:
    """Run the cases of the seeds, each batch in a forked process until one breaks it."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        while len(results) < len(seeds):
            results += _run_in_fork(target, seeds[len(results) :], seconds, scratch)
    return results


def run_case(target: Target, seed: int, seconds: float = SECONDS) -> Result:
    """Run one case in this process."""
    target.prepare()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    case = Case(random.Random(f"{target.name}/{seed}"), folder)
    begin = time.perf_counter()
    try:
        with _alarm(seconds):
            target.run(case)
        outcome, detail = ("right", "") if case.refusal is None else ("refused", case.refusal)
    except KeyboardInterrupt:
        raise
    except BaseException:
        outcome, detail = (
            "fault",
            _tail(traceback.format_exc()) + "".join(f"\n  input: {note}" for note in case.notes),
        )
    finally:
        _remove(folder)
    return Result(seed, outcome, time.perf_counter() - begin, detail)


def _run_in_fork(
    target: Target, seeds: Sequence[int], seconds: float, scratch: str
) -> list[Result]:
    """Results of the first seeds, up to one that ends the process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        tempfile.tempdir = scratch  # a child that is killed cleans nothing up
        _serve(target, seeds, seconds, writer)
    os.close(writer)
    try:
        return _gather(child, reader, seeds, seconds)
    finally:
        os.close(reader)


def _serve(target: Target, seeds: Sequence[int], seconds: float, writer: int) -> None:
    """Run cases in the child, a line of JSON for each; never returns."""
    status = 1
    try:
        faulthandler.disable()  # pytest's writes to a terminal of its own
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)  # libraries in C complain there of what they are fed with
        os.dup2(quiet, 2)
        _limit_memory()
        target.prepare()
        os.write(writer, b"null\n")
        for seed in seeds:
            line = json.dumps(run_case(target, seed, seconds))
            os.write(writer, line.encode("ascii") + b"\n")
        status = 0
    finally:
        os._exit(status)


def _gather(child: int, reader: int, seeds: Sequence[int], seconds: float) -> list[Result]:
    results: list[Result] = []
    rest = b""
    hung, prepared = False, False
    while len(results) < len(seeds):
        patience = seconds + _GRACE if prepared else _PATIENCE
        ready, _, _ = select.select([reader], [], [], patience)
        if not ready:
            hung = True
            os.kill(child, signal.SIGKILL)
            break
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        found = [json.loads(line) for line in lines]
        prepared = prepared or bool(found)
        results += [Result(*result) for result in found if result is not None]
    _, status = os.waitpid(child, 0)
    if len(results) < len(seeds):
        how = "hangs where no signal is heard" if hung else f"ends the process: status {status}"
        results.append(Result(seeds[len(results)], "fault", seconds if hung else 0.0, how))
    return results


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if _has_proc() else 0
    if pages:
        most = pages * resource.getpagesize() + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def _has_proc() -> bool:
    return Path("/proc/self/statm").is_file()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _Hang(f"still at work after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _tail(text: str, lines: int = 14) -> str:
    return "\n".join(text.rstrip().splitlines()[-lines:])[-3000:]


def _remove(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
