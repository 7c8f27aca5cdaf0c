"""`kill -9`, a full disk, a read-only folder: the command goes on to the same end."""

import random
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("processes are forked and counted as Linux does", allow_module_level=True)

from kills.children import Fault
from kills.commands import COMMANDS, Command, warm_up
from kills.table import ROWS, Row
from kills.trials import Bench, can_mount, random_fault


@pytest.fixture(scope="module", autouse=True)
def warm():
    warm_up()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_stopped_command_goes_on_to_the_same_end(
    command: Command, request: pytest.FixtureRequest, tmp_path: Path
):
    number = request.config.getoption("--kills", default=None)
    first = request.config.getoption("--kills-from", default=0)
    if number is None and not command.cheap:
        pytest.skip("nightly: --kills N")
    share = 1 if number is None else -(-number // len(COMMANDS))
    bench = Bench(command, tmp_path)
    row = ROWS[command.name] = Row(command.name, bench.prepare())
    small = number is not None and can_mount(tmp_path)
    try:
        for seed in range(first, first + share):
            rng = random.Random(f"{command.name}/{seed}")
            fault, again = random_fault(rng, row.baseline, small=small), None
            if number is None:
                fault = Fault("kill", rng.randint(1, row.baseline.operations))
            elif fault.kind in ("kill", "late") and rng.random() < 0.3:
                again = random_fault(rng, row.baseline, small=False)
            row.trials.append(bench.try_once(fault, row.baseline, again))
    finally:
        bench.clear()
    problems = {trial.fault: trial.problems for trial in row.trials if trial.problems}
    told = [
        f"{fault.kind} {fault.at:g}: {'; '.join(lines[:6])}" for fault, lines in problems.items()
    ]
    assert not problems, "\n".join([f"{len(problems)} of {share} trials", *told])


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.cheap], ids=lambda c: c.name)
def test_a_read_only_folder_is_a_sentence(command: Command, tmp_path: Path):
    bench = Bench(command, tmp_path)
    bench.make_inputs()
    trial = bench.try_read_only()
    assert not trial.problems
    assert trial.reached, "it wrote where nothing can be written"
