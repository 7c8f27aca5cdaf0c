"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

# The same examples in every run, so that a change is what fails; CONTRIBUTING.md says how to look
# for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

# Two cores, many test processes: one thread each beats two threads fighting.
torch.set_num_threads(int(os.environ.get("MMDIFF_TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real clips (re10k/, re10k_chunks/), from MMDIFF_TEST_DATA; skips without it."""
    root = os.environ.get("MMDIFF_TEST_DATA")
    if not root:
        pytest.skip("MMDIFF_TEST_DATA is not set: no real clips to test on")
    path = Path(root)
    if not (path / "re10k").is_dir():
        pytest.skip(f"MMDIFF_TEST_DATA={root} has no re10k/ folder")
    return path


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep caches out of the user's folders; all test processes share one place."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    os.environ["MMDIFF_CACHE"] = str(base / "cache")
    return base / "cache"


@pytest.fixture
def tight_disk() -> Iterator[int]:
    """No file takes more than these bytes, as if the disk were full: the system answers EFBIG."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield 2000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def nano_wan(cache_folder: Path):
    """The small Wan backbone with random weights, loaded once per test process."""
    from mmdiff_video.backbones import load_backbone

    return load_backbone("nano-wan-random")
