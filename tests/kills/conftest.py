"""How many kills, and the table at the end.

pytest tests/kills                     one kill each of the cheapest commands, as in CI
pytest tests/kills --kills 100         so many over all commands, full disks among them
"""

import pytest
from kills.table import ROWS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kills")
    group.addoption("--kills", type=int, metavar="N", help="faults over all commands")
    group.addoption("--kills-from", type=int, default=0, metavar="SEED", help="default: 0")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS:
        return
    names = ("command", "operations", "seconds", "kills", "full disks", "too late", "faults")
    rows = [names, *([row.command, *map(str, row.figures())] for row in ROWS.values())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    terminalreporter.section("kills")
    for name, *figures in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(figures, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join([f"{name:<{widths[0]}}", *cells]))
