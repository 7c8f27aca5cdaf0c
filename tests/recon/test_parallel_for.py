"""The engine's loop over jobs, checked by a program of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCES = Path(__file__).parents[2] / "recon" / "rasterize" / "csrc"
_COMPILER = shutil.which("c++")


@pytest.mark.skipif(_COMPILER is None, reason="no C++ compiler")
def test_every_job_is_done_once_by_workers_apart(tmp_path):
    program = tmp_path / "check"
    sources = [Path(__file__).with_name("parallel_for_check.cpp"), _SOURCES / "parallel.cpp"]
    flags = ["-std=c++17", "-O1", f"-I{_SOURCES}", "-pthread"]
    subprocess.run([_COMPILER, *flags, *sources, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
