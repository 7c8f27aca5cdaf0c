import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdiff_video.errors import InputError
from mmdiff_video.workers import worker_pool

PARENT = """
import os, sys, time
from concurrent.futures import wait
from pathlib import Path
from mmdiff_video.workers import worker_pool

def work(folder):
    (folder / str(os.getpid())).touch()
    BUSY

if __name__ == "__main__":
    with worker_pool(2) as pool:
        wait([pool.submit(work, Path(sys.argv[1])) for _ in range(9)])
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    # dead, and waiting for a parent that asks
    return not (state.is_file() and ") Z " in state.read_text())


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
@pytest.mark.parametrize(
    "busy", ["time.sleep(10)", "end = time.time() + 10\n    while time.time() < end: pass"]
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path, busy: str, number: int):
    program, folder = tmp_path / "parent.py", tmp_path / "workers"
    program.write_text(PARENT.replace("BUSY", busy))
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(program), str(folder)])
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    assert all(map(alive, workers))
    parent.send_signal(number)
    parent.wait(10)
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_worker_that_is_killed_is_one_sentence():
    said = pytest.raises(InputError, match=r"a worker process died.*with fewer processes")
    with said, worker_pool(1) as pool:
        pool.submit(os._exit, 9).result()


def test_what_was_not_begun_is_not_done(tmp_path: Path):
    with worker_pool(1) as pool:
        pool.submit(time.sleep, 0.2)
        for i in range(50):
            pool.submit(os.mkdir, tmp_path / str(i))
    assert len(list(tmp_path.iterdir())) < 5


def test_an_error_of_the_work_comes_back_whole(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught, worker_pool(1) as pool:
        pool.submit(os.mkdir, str(tmp_path / "a" / "b")).result()
    assert caught.value.filename == str(tmp_path / "a" / "b")
