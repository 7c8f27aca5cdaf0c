"""Faults befall a child exactly when they are due."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("processes are forked and counted as Linux does", allow_module_level=True)

import time

from kills.children import Ended, Fault, run_child


@pytest.fixture
def run(tmp_path: Path):
    out = tmp_path / "out"

    def start(work, fault: Fault | None = None) -> Ended:
        out.mkdir(exist_ok=True)
        return run_child(lambda: work(out), out, tmp_path / "log", fault)

    return start


def three_files(out: Path) -> int:
    (out.parent / "elsewhere").write_text("not counted")
    for name in "abc":
        (out / f".{name}").write_text(name)
        (out / f".{name}").rename(out / name)
    print("done")
    return 0


def test_operations_below_the_folder_are_counted(run):
    ended = run(three_files)
    assert (ended.status, ended.operations, ended.orphans) == (0, 6, [])
    assert ended.log == "done\n"


@pytest.mark.parametrize(("at", "left"), [(1, []), (2, [".a"]), (3, ["a"]), (6, [".c", "a", "b"])])
def test_a_child_dies_right_before_an_operation(run, tmp_path: Path, at: int, left: list[str]):
    ended = run(three_files, Fault("kill", at))
    assert ended.status == -9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == left


def test_a_child_dies_at_a_time(run):
    ended = run(lambda out: time.sleep(30) or 0, Fault("late", 0.2))
    assert ended.status == -9
    assert ended.seconds < 5


def test_a_disk_is_full_from_an_operation_on(run):
    def work(out: Path) -> int:
        try:
            three_files(out)
        except OSError as error:
            return 3 if error.errno == errno.ENOSPC else 1
        return 0

    assert run(work, Fault("full", 3)).status == 3
    assert run(work, Fault("full", 7)).status == 0


def test_a_folder_is_read_only_for_root_too(run, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o555)
    ended = run(three_files, Fault("read-only"))
    (tmp_path / "out").chmod(0o755)
    assert ended.status == 1
    assert "PermissionError" in ended.log


def test_what_goes_on_after_a_kill_is_found_and_ended(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kills.children._ORPHANS", 0.2)

    def work(out: Path) -> int:
        subprocess.Popen(["sleep", "60"])
        (out / "a").touch()
        return 0

    assert ["sleep" in line for line in run(work, Fault("kill", 1)).orphans] == [True]


def test_exceptions_and_exits_are_statuses(run):
    def fails(out: Path) -> int:
        raise KeyError("x")

    assert run(fails).status == 1
    assert "KeyError" in run(fails).log
    assert run(lambda out: sys.exit(2)).status == 2
