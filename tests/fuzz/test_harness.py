"""The fuzz harness finds what it is there to find."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("cases run in forked processes, as Linux can", allow_module_level=True)

from fuzz.harness import Case, Target, require, require_sentence, run_case, run_cases


def raises(error: Exception):
    def run(case: Case) -> None:
        with case.refusable(ValueError, naming="a.txt"):
            raise error

    return run


def outcomes(run, seeds=range(3), seconds: float = 5.0, prepare=int) -> list[str]:
    found = run_cases(Target("probe", run, 3, prepare), seeds, seconds)
    assert [result.seed for result in found] == list(seeds)
    return [result.outcome for result in found]


def test_a_quiet_end_is_right():
    assert outcomes(lambda case: None) == ["right"] * 3


def test_a_sentence_that_names_the_file_is_a_refusal():
    assert outcomes(raises(ValueError("a.txt, line 3: not a number"))) == ["refused"] * 3


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a.txt"),
        ValueError(""),
        ValueError("not a number"),
        ValueError("a.txt\nis broken"),
        RecursionError("a.txt"),
        MemoryError(),
    ],
    ids=repr,
)
def test_everything_else_that_is_raised_is_a_fault(error: Exception):
    assert outcomes(raises(error)) == ["fault"] * 3


def test_a_layout_may_follow_a_colon():
    require_sentence("no folder 'x'; it must lie so:\n  DIR/images\n  DIR/labels")
    with pytest.raises(AssertionError, match="several lines"):
        require_sentence("two\nlines")
    require_sentence("no picture 'n\nl.png'", echoed=["n\nl"])


def test_a_wrong_answer_is_a_fault_with_its_input():
    def run(case: Case) -> None:
        case.note("three numbers")
        require(case.rng.random() < 0, "other numbers")

    (result,) = run_cases(Target("probe", run, 1, int), [7])
    assert result.outcome == "fault"
    assert "other numbers" in result.detail
    assert "input: three numbers" in result.detail


def test_hanging_and_dying_cases_are_faults_and_the_others_go_on():
    def run(case: Case) -> None:
        roll = case.rng.randrange(4)
        if roll == 0:
            try:
                time.sleep(60)
            except Exception:  # what catches everything must not catch the alarm
                return
        if roll == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if roll == 2:
            sys.exit(0)

    found = outcomes(run, range(12), seconds=0.2)
    assert set(found) == {"right", "fault"}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux")
def test_a_case_that_takes_all_memory_is_a_fault():
    assert outcomes(lambda case: require(bytearray(8 << 30), ""), range(1)) == ["fault"]


def test_a_case_depends_on_its_target_and_seed_alone():
    def run(case: Case) -> None:
        require(False, f"{case.rng.random()}")

    target = Target("probe", run, 1, int)
    forked = [result.detail.splitlines()[-1] for result in run_cases(target, [4, 5])]
    assert forked[1] == run_case(target, 5).detail.splitlines()[-1]
    assert forked[0] != forked[1]


def test_what_takes_long_is_done_once_and_costs_no_case_its_time():
    done: list[int] = []

    def prepare() -> None:
        if not done:
            time.sleep(0.5)
            done.append(1)

    assert outcomes(lambda case: require(done, ""), seconds=0.3, prepare=prepare) == ["right"] * 3


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(case: Case) -> None:
        (case.folder / "locked").mkdir()
        (case.folder / "locked" / "file").touch()
        (case.folder / "locked").chmod(0)

    assert outcomes(run) == ["right"] * 3
    assert not list(tmp_path.iterdir())
