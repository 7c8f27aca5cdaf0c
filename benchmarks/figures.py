"""The form of all benchmarks' figures: JSON that ``compare.py`` reads.

    {"schema": 1, "benchmark": "taps", "commit": "7effb6b", "machine": {"processor": ...},
     "figures": [{"name": "nano-wan, tapped", "value": 1.004, "unit": "", "better": "less",
                  "ratio_of": "tapped / untapped time", "repeats": 21, "spread": 0.002}],
     "details": ...}

Ratios of two things measured in turns on one machine are what can be compared between days and
commits; times and sizes stand beside them.
"""

import json
import math
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

SCHEMA = 1

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        name: unique in its benchmark, and the same in every run of it.
        value: finite.
        unit: ``ms``, ``MiB``, ...; empty for a ratio or a count.
        better: ``less`` or ``more``.
        ratio_of: what is divided by what; empty: it is no ratio.
        repeats: measurements that it is the median of; 1: counted, not measured.
        spread: standard error of ``value``, in its unit; 0 where it is counted.

    Raises:
        ValueError: a number that is not finite, or a word that is not known.
    """

    name: str
    value: float
    unit: str = ""
    better: str = "less"
    ratio_of: str = ""
    repeats: int = 1
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.spread) and self.spread >= 0):
            raise ValueError(f"figure '{self.name}' is {self.value} +- {self.spread}")
        if self.better not in ("less", "more"):
            raise ValueError(f"figure '{self.name}': better is '{self.better}', not less or more")


@dataclass(frozen=True)
class Report:
    """What one call of a benchmark measured.

    Attributes:
        benchmark: name of its script.
        figures: by name.
        commit: of the checkout, with ``-dirty`` behind where files differ from it.
        machine: what it ran on.
        details: whatever else the benchmark knows, as JSON values.
    """

    benchmark: str
    figures: Mapping[str, Figure]
    commit: str
    machine: Mapping[str, Any]
    details: Any = field(default=None)


class Turns(NamedTuple):
    """Measurements of two things that took turns, of equal number."""

    first: Sequence[float]
    second: Sequence[float]

    def medians(self) -> tuple[float, float]:
        """Of either."""
        return statistics.median(self.first), statistics.median(self.second)

    def ratio(self, name: str, ratio_of: str, *, better: str = "less") -> Figure:
        """First over second: of the medians; its spread is that of neighbours in time."""
        a, b = self.medians()
        neighbours = [x / y for x, y in zip(self.first, self.second, strict=True)]
        return Figure(
            name=name,
            value=a / b,
            better=better,
            ratio_of=ratio_of,
            repeats=len(neighbours),
            spread=error_of_median(neighbours),
        )


def median_figure(name: str, values: Sequence[float], unit: str, *, better: str = "less") -> Figure:
    """Make a figure of repeated measurements."""
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        better=better,
        repeats=len(values),
        spread=error_of_median(values),
    )


def ratio_figure(name: str, a: Figure, b: Figure, ratio_of: str) -> Figure:
    """Divide two figures that were measured apart."""
    value = a.value / b.value
    relative = math.hypot(a.spread / a.value, b.spread / b.value)
    return Figure(
        name=name,
        value=value,
        ratio_of=ratio_of,
        repeats=min(a.repeats, b.repeats),
        spread=abs(value) * relative,
    )


def error_of_median(values: Sequence[float]) -> float:
    """Estimate the standard error of a median by the distance of the quartiles; 0 of one value.

    Of a normal distribution that distance is 1.35 deviations, and a median varies 1.25 times as
    much as a mean. A burst of other work moves the quartiles less than a deviation.
    """
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return 1.25 * (high - low) / 1.35 / math.sqrt(len(values))


def write_report(path: Path, benchmark: str, figures: Sequence[Figure], details: Any) -> None:
    """Write what a benchmark measured, with the commit and the machine.

    Raises:
        ValueError: two figures have one name.
    """
    names = [figure.name for figure in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"{benchmark}: figures of one name: {sorted(names)}")
    content = {
        "schema": SCHEMA,
        "benchmark": benchmark,
        "commit": commit(),
        "machine": machine(),
        "figures": [asdict(figure) for figure in figures],
        "details": details,
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_report(path: Path) -> Report:
    """Read what :func:`write_report` wrote.

    Raises:
        ValueError: it is no such file, or of another schema; names it.
    """
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise ValueError(f"it is of schema {content['schema']}, this is {SCHEMA}")
        figures = [Figure(**figure) for figure in content["figures"]]
        return Report(
            benchmark=content["benchmark"],
            figures={figure.name: figure for figure in figures},
            commit=content["commit"],
            machine=content["machine"],
            details=content["details"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is no report of a benchmark: {error}") from None


def processor_name() -> str:
    """Model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What figures depend on beside the code."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit() -> str:
    """Of the checkout that the measured code lies in; ``unknown`` outside of git."""
    import mmdiff_video

    command = ["git", "-C", str(Path(mmdiff_video.__file__).parent), "describe", "--always"]
    try:
        found = subprocess.run([*command, "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
