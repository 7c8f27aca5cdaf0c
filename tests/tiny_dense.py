"""A dense run of seconds."""

from pathlib import Path

from mmdiff_video.cli import main

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

SHORT = [*TINY, "train.steps=3"]


def dense(task: str, root: Path, out: Path, *more: str) -> int:
    command = ["dense", "--task", task, "--data", "rooms", "--data-root", str(root)]
    return main([*command, "--backbone", "nano-wan-random", "--out", str(out), *SHORT, *more])
