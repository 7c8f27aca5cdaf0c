"""Which ratios moved between two commits, or between two files of figures.

    python benchmarks/compare.py old.json new.json
    python benchmarks/compare.py --commits main HEAD                   # taps and dense, 3 rounds
    python benchmarks/compare.py --commits v0.1.0 HEAD --rounds 5 --run "rasterizer.py --threads 1"

With ``--commits`` both are checked out beside each other, and the benchmarks of this checkout
measure them in turns, so that the ups and downs of the machine meet both. A ratio has moved when
its two medians lie further apart than three standard errors of their difference and than 2 %.
Exit status 1 when one has moved for the worse. Times and sizes are shown with --all; no verdict
hangs on them, because another day or machine moves them too.
"""

import argparse
import math
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from figures import ROOT, Figure, Report, error_of_median, read_report

ERRORS = 3.0
"""Standard errors that two medians must lie apart."""

LEAST = 0.02
"""Share by which a ratio must change to count: less is nothing that anyone would feel."""

RUNS = ("taps.py --repeats 15", "dense.py --repeats 9")
"""Benchmarks of a few minutes that --commits runs unless told otherwise."""

_LIBRARY = Path("recon") / "rasterize" / "_splatting.so"


@dataclass(frozen=True)
class Change:
    """A figure of both sides.

    Attributes:
        figure: of the new side, whose value is the median over its reports.
        old: its value there.
        error: standard error of the difference.
    """

    figure: Figure
    old: float
    error: float

    @property
    def relative(self) -> float:
        """New over old, minus one; infinite where the old one is 0 and the new one is not."""
        difference = self.figure.value - self.old
        if self.old == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / abs(self.old)

    @property
    def verdict(self) -> str:
        """``same``, ``better`` or ``worse``."""
        apart = abs(self.figure.value - self.old)
        if apart <= ERRORS * self.error or abs(self.relative) <= LEAST:
            return "same"
        more = self.figure.value > self.old
        return "better" if more == (self.figure.better == "more") else "worse"


def compare(old: Sequence[Report], new: Sequence[Report]) -> list[Change]:
    """Compare the figures that both sides have, each side from one report or several.

    Raises:
        ValueError: reports of other benchmarks or machines, or no figure in common.
    """
    reports = [*old, *new]
    for what in ("benchmark", "machine"):
        found = {str(getattr(report, what)) for report in reports}
        if len(found) > 1:
            raise ValueError(f"figures of different {what}s: {' and '.join(sorted(found))}")
    names = [name for name in new[0].figures if all(name in r.figures for r in reports)]
    if not names:
        raise ValueError("the two sides have no figure in common")
    changes = []
    for name in names:
        before, after = (_pooled([r.figures[name] for r in side]) for side in (old, new))
        error = math.hypot(before.spread, after.spread)
        changes.append(Change(after, before.value, error))
    return changes


def missing(old: Sequence[Report], new: Sequence[Report]) -> list[str]:
    """Names of figures that not every report has."""
    every = [set(report.figures) for report in [*old, *new]]
    return sorted(set.union(*every) - set.intersection(*every))


def _pooled(figures: Sequence[Figure]) -> Figure:
    """Median of several runs; its error is the larger of what they state and how they differ."""
    values = [figure.value for figure in figures]
    within = statistics.median(figure.spread for figure in figures) / math.sqrt(len(figures))
    spread = max(within, error_of_median(values))
    return Figure(
        name=figures[0].name,
        value=statistics.median(values),
        unit=figures[0].unit,
        better=figures[0].better,
        ratio_of=figures[0].ratio_of,
        repeats=sum(figure.repeats for figure in figures),
        spread=spread,
    )


def table(changes: Sequence[Change], *, everything: bool) -> str:
    """Lines of text: the ratios, or everything."""
    rows: list[tuple[str, ...]] = [("figure", "old", "new", "change", "noise", "")]
    for change in changes:
        figure = change.figure
        if not figure.ratio_of and not everything:
            continue
        noise = ERRORS * change.error / abs(change.old) if change.old else 0.0
        verdict = change.verdict if figure.ratio_of else f"({change.verdict}; no ratio)"
        values = (f"{value:.4g} {figure.unit}".strip() for value in (change.old, figure.value))
        rows.append((figure.name, *values, f"{change.relative:+.1%}", f"{noise:.1%}", verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def print_comparison(old: Sequence[Report], new: Sequence[Report], *, everything: bool) -> bool:
    """Print what moved; returns whether a ratio got worse.

    Raises:
        ValueError: as :func:`compare`.
    """
    changes = compare(old, new)
    machine = ", ".join(f"{key} {value}" for key, value in new[0].machine.items() if value)
    print(f"{new[0].benchmark}: {old[0].commit} -> {new[0].commit}, on {machine}")
    print(table(changes, everything=everything))
    if left := missing(old, new):
        print(f"not on both sides: {', '.join(left)}")
    return any(change.figure.ratio_of and change.verdict == "worse" for change in changes)


# -- commits ------------------------------------------------------------------------------------


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a worktree of its own, its compiled engine built.

    Raises:
        ValueError: no such commit.
    """
    tree = folder / revision.replace("/", "-")
    made = _git("worktree", "add", "--detach", str(tree), revision)
    if made.returncode != 0:
        raise ValueError(f"cannot check out '{revision}': {made.stderr.strip().splitlines()[-1]}")
    try:
        _build_engine(revision, tree)
        yield tree
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _build_engine(revision: str, tree: Path) -> None:
    """Copy the library of this checkout where its sources are the same, else compile it."""
    sources = ("recon/rasterize/csrc", "CMakeLists.txt")
    same = _git("diff", "--quiet", revision, "--", *sources).returncode == 0
    if same and (ROOT / _LIBRARY).is_file():
        shutil.copyfile(ROOT / _LIBRARY, tree / _LIBRARY)
        return
    with tempfile.TemporaryDirectory() as build:
        for command in (["-S", str(tree), "-B", build], ["--build", build, "--parallel"]):
            subprocess.run(["cmake", *command], check=True, stdout=subprocess.DEVNULL)
        shutil.copyfile(next(Path(build).rglob(_LIBRARY.name)), tree / _LIBRARY)


def measure(tree: Path, run: str, result: Path) -> Report:
    """Run a benchmark of this checkout on the code of a worktree.

    Raises:
        ValueError: it fails there.
    """
    script, *words = shlex.split(run)
    # -S: without the finder of an editable install, which would import this checkout. What site
    # would have added to the path is handed over.
    path = [str(tree), *(entry for entry in sys.path if entry and Path(entry).resolve() != ROOT)]
    command = [sys.executable, "-S", str(ROOT / "benchmarks" / script), *words]
    ended = subprocess.run(
        [*command, "--json", str(result)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=tree,
        capture_output=True,
        text=True,
    )
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["without a word"])[-1]
        raise ValueError(f"{script} fails on {tree.name}: {last}")
    return read_report(result)


def measure_commits(
    revisions: tuple[str, str], run: str, rounds: int
) -> tuple[list[Report], list[Report]]:
    """Measure two commits in turns; which goes first changes with every round.

    Raises:
        ValueError: as :func:`checked_out` and :func:`measure`.
    """
    reports: tuple[list[Report], list[Report]] = ([], [])
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        (folder / "old").mkdir()
        (folder / "new").mkdir()
        with (
            checked_out(revisions[0], folder / "old") as old,
            checked_out(revisions[1], folder / "new") as new,
        ):
            for number in range(rounds):
                order = [(old, reports[0]), (new, reports[1])]
                for tree, kept in order if number % 2 == 0 else reversed(order):
                    kept.append(measure(tree, run, folder / "figures.json"))
                print(f"{run}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return reports


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; returns 1 where a ratio got worse, 2 where nothing can be compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="old and new figures")
    parser.add_argument("--commits", nargs=2, metavar=("OLD", "NEW"), help="measure these instead")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each commit (3)")
    parser.add_argument(
        "--run", action="append", metavar="SCRIPT", help=f"with its arguments ({'; '.join(RUNS)})"
    )
    parser.add_argument("--all", action="store_true", help="show times and sizes too")
    args = parser.parse_args(argv)
    if bool(args.commits) == bool(args.files) or len(args.files) not in (0, 2):
        parser.error("give two files, or --commits OLD NEW")
    worse = False
    try:
        if args.files:
            old, new = ([read_report(file)] for file in args.files)
            worse = print_comparison(old, new, everything=args.all)
        for run in (args.run or RUNS) if args.commits else ():
            sides = measure_commits((args.commits[0], args.commits[1]), run, args.rounds)
            worse = print_comparison(*sides, everything=args.all) or worse
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
