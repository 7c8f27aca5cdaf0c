"""Runs in other processes: several at once, killed, interrupted."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mmdiff_video.locks import sole_writer
from mmdiff_video.training import checkpoints

_ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
_TORCHRUN = ("torch.distributed.run", "--nproc-per-node=2", "--standalone")


def _run(tiny, run: Path, launcher: tuple[str, ...] = (), **arguments):
    return subprocess.run(
        [sys.executable, *launcher, tiny.__file__, str(run), json.dumps(arguments)],
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "launcher",
    [
        _TORCHRUN,
        (
            "accelerate.commands.launch",
            "--multi_gpu",  # the only launcher of accelerate that starts CPU processes without MPI
            "--num_processes=2",
            "--num_machines=1",
            "--mixed_precision=no",
            "--dynamo_backend=no",
            "--main_process_port=0",  # a free one
        ),
    ],
    ids=["torchrun", "accelerate"],
)
def test_two_processes_follow_one_with_twice_the_batch(tiny, metrics, tmp_path: Path, launcher):
    # three broken samples: a process now and then has fewer than the other, or none
    settings = {"steps": 12, "broken": [1, 4, 6]}
    done = _run(tiny, tmp_path / "two", ("-m", *launcher), batch_size=1, **settings)
    assert done.returncode == 0, done.stderr
    tiny.tiny_trainer(tmp_path / "one", batch_size=2, **settings).fit()
    two, one = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    assert len(two) == 4
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    skipped = [json.loads((tmp_path / n / "skipped.json").read_text()) for n in ("one", "two")]
    assert skipped[0] == skipped[1]


def _in_two_processes(body: str, folder: Path) -> None:
    """Run lines of Python that may fail."""
    program = folder / "program.py"
    program.write_text(
        f"import torch\nfrom mmdiff_video.process import processes\n{textwrap.dedent(body)}"
        "processes().destroy_process_group()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", *_TORCHRUN, str(program)],
        env=_ENVIRONMENT | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_processes_wait_for_hours_while_the_first_prepares_data(tmp_path: Path):
    body = """
        from torch.distributed.distributed_c10d import _get_default_group
        processes()
        backend = _get_default_group()._get_backend(torch.device("cpu"))
        assert backend.options._timeout.total_seconds() >= 10 * 3600, backend.options._timeout
        del backend
    """
    _in_two_processes(body, tmp_path)


def test_all_processes_are_refused_a_folder_that_is_held(tmp_path: Path):
    body = f"""
        from pathlib import Path
        from mmdiff_video.errors import InputError
        from mmdiff_video.process import writing_together
        run = Path({str(tmp_path / "run")!r})
        try:
            with writing_together(run, "training"):
                raise AssertionError("it was granted")
        except InputError as error:
            assert "in use by another process" in str(error)
        with writing_together(run.with_name("free"), "training"):
            processes().wait_for_everyone()
    """
    (tmp_path / "run").mkdir()
    with sole_writer(tmp_path / "run", "holding"):
        _in_two_processes(body, tmp_path)


@pytest.mark.parametrize(("gains", "taken"), [((1.3, 1.1), True), ((1.1, 1.3), False)])
def test_all_processes_take_the_precision_that_the_first_measured(tmp_path: Path, gains, taken):
    body = f"""
        from mmdiff_video.training import precision
        precision.cpu_bf16_gain = lambda: {gains}[processes().process_index]
        assert precision.takes_bf16("auto", torch.device("cpu")) is {taken}
    """
    _in_two_processes(body, tmp_path)


def test_a_kill_while_a_checkpoint_is_written_loses_only_that_one(tiny, metrics, tmp_path: Path):
    killed = _run(tiny, tmp_path / "killed", dropout=0.3, die_while_writing=8)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "killed" / "checkpoints"
    assert [p.name for p in checkpoints(tmp_path / "killed")] == ["step-000004"]
    assert len(list(folder.iterdir())) == 2, "the unfinished one lies beside"
    assert metrics(tmp_path / "killed")[-1]["step"] == 6

    tiny.tiny_trainer(tmp_path / "killed", dropout=0.3, resume=True).fit()
    tiny.tiny_trainer(tmp_path / "whole", dropout=0.3).fit()
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert sorted(p.name for p in folder.iterdir()) == ["step-000008", "step-000012"]


def test_ctrl_c_in_a_terminal_ends_with_a_checkpoint(tiny, tmp_path: Path):
    arguments = json.dumps({"steps": 100_000, "workers": 1, "seconds": 0.01})
    process = subprocess.Popen(
        [sys.executable, tiny.__file__, str(tmp_path), arguments],
        env=_ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not checkpoints(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal signals the data workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "SIGINT: stopped after step" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors
