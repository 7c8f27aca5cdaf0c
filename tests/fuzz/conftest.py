"""How many cases, which, and the table at the end.

pytest tests/fuzz                             the cases of CI: the same in every run
pytest tests/fuzz --fuzz-cases 10000          so many in all
pytest tests/fuzz --fuzz-from 20260101        other seeds
pytest tests/fuzz --fuzz-case captions:7      one case, in this process
"""

import pytest
from fuzz.harness import RESULTS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzz")
    group.addoption(
        "--fuzz-cases", type=int, metavar="N", help="cases in all (default: those of CI)"
    )
    group.addoption(
        "--fuzz-from", type=int, default=0, metavar="SEED", help="first seed (default: 0)"
    )
    group.addoption("--fuzz-case", metavar="TARGET:SEED", help="run this one case only")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not RESULTS:
        return
    names = ("target", "cases", "right", "refused", "faults", "slowest, s", "all, s")
    rows = [names]
    everything = [result for results in RESULTS.values() for result in results]
    for name, results in [*sorted(RESULTS.items()), ("all", everything)]:
        outcomes = [result.outcome for result in results]
        seconds = [result.seconds for result in results]
        counts = [outcomes.count(word) for word in ("right", "refused", "fault")]
        figures = [len(results), *counts, f"{max(seconds):.2f}", f"{sum(seconds):.1f}"]
        rows.append((name, *map(str, figures)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    terminalreporter.section("fuzz")
    for name, *figures in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(figures, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join([f"{name:<{widths[0]}}", *cells]))
