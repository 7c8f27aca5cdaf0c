"""Every reader, writer and argument: right, or one clear sentence."""

import math
import sys

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("cases run in forked processes, as Linux can", allow_module_level=True)

import fuzz.targets  # noqa: F401  fills the table
from fuzz.harness import RESULTS, TARGETS, Result, run_case, run_cases

_SHOWN = 4
"""Faults whose traceback is shown; the others are named."""


def _command(name: str, result: Result) -> str:
    return f"{sys.executable} -m pytest tests/fuzz/test_fuzz.py --fuzz-case {name}:{result.seed}"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_case_is_right_or_refused_in_one_sentence(name: str, request: pytest.FixtureRequest):
    target = TARGETS[name]
    config = request.config
    if chosen := config.getoption("--fuzz-case", default=None):
        wanted, _, seed = chosen.rpartition(":")
        if wanted != name:
            pytest.skip(f"only {chosen} is asked for")
        results = [run_case(target, int(seed))]
    else:
        first = config.getoption("--fuzz-from", default=0)
        cases = config.getoption("--fuzz-cases", default=None)
        share = target.cases / sum(each.cases for each in TARGETS.values())
        count = target.cases if cases is None else math.ceil(cases * share)
        results = run_cases(target, range(first, first + count))
    RESULTS[name] = results
    faults = [result for result in results if result.outcome == "fault"]
    shown = [f"{_command(name, fault)}\n{fault.detail}\n" for fault in faults[:_SHOWN]]
    assert not faults, (
        f"{len(faults)} of {len(results)} cases, seeds {[fault.seed for fault in faults]}\n"
        + "\n".join(shown)
    )
