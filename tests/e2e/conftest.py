from pathlib import Path

import pytest
from tiny_dense import dense

from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.tasks import TASKS


@pytest.fixture(scope="session")
def stills(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stills") / "rooms"
    return make_rooms(root, layout="folders", scenes=5, width=64, height=48, jobs=1)


@pytest.fixture(scope="session")
def runs(stills, tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("runs")
    for task in TASKS:
        assert dense(task, stills, base / task) == 0
    return {task: base / task for task in TASKS}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "rooms"
    return make_rooms(out, scenes=4, frames=14, width=64, height=48, jobs=1)
