import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmdiff_video.errors import InputError
from mmdiff_video.locks import sole_writer, writer_in_turn

HOLD = """
import os, sys, time
from pathlib import Path
from mmdiff_video.locks import sole_writer
with sole_writer(Path(sys.argv[1]), "holding"):
    if os.fork() == 0:
        time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["run", "captions.jsonl"])
def test_a_second_process_is_refused_and_a_kill_frees_the_lock(tmp_path: Path, name: str):
    path = tmp_path / name
    if "." not in name:
        path.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="in use by another process"):  # noqa: SIM117
            with sole_writer(path, "training"):
                pass
        holder.kill()  # the child that it forked lives on
        holder.wait()
        with sole_writer(path, "training"):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_one_process_does_not_hold_a_lock_twice(tmp_path: Path):
    with sole_writer(tmp_path, "training"):
        again = sole_writer(tmp_path, "training")
        with pytest.raises(InputError, match="in use"):
            again.__enter__()
    with sole_writer(tmp_path, "training"):
        pass


@pytest.mark.parametrize("name", ["run", "captions.jsonl"])
def test_who_waits_has_its_turn_when_the_other_ends(tmp_path: Path, caplog, name: str):
    path = tmp_path / name
    if "." not in name:
        path.mkdir()
    order = []

    def second() -> None:
        with writer_in_turn(path, "drawing"):
            order.append("second")

    caplog.set_level(logging.INFO)
    with ThreadPoolExecutor() as threads:
        with sole_writer(path, "drawing"):
            waiting = threads.submit(second)
            time.sleep(0.3)
            order.append("first")
        waiting.result(10)
    assert order == ["first", "second"]
    assert caplog.text.count("waiting for another process (drawing)") == 1
    second()  # what is free is not waited for
    with pytest.raises(InputError, match="of the body"), writer_in_turn(path, "drawing"):
        raise InputError("of the body")
