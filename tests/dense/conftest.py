"""A small backbone and small pictures for all dense tests."""

from pathlib import Path

import pytest

from mmdiff_video.datasets.rooms.make import make_rooms

TINY = [
    "data.height=32",
    "data.width=48",
    "aggregator.width=16",
    "aggregator.depth=1",
    "aggregator.heads=4",
    "deeplab.width=16",
    "dpt.width=16",
    "dpt.stages=[8,8,8,8]",
    "backbone.taps=[1,3]",
    "train.batch_size=2",
    "train.checkpoint_every=2",
    "train.preview_every=3",
    "train.log_every=1",
]


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides that make a run of seconds."""
    return TINY


@pytest.fixture(scope="session")
def stills(tmp_path_factory) -> Path:
    """Procedural rooms as own folders: four pictures in train and one in test, 64x48."""
    root = tmp_path_factory.mktemp("stills") / "rooms"
    return make_rooms(root, layout="folders", scenes=5, width=64, height=48, jobs=1)
