"""A stand-in for the rooms: clips of one coloured disc, and settings of runs that take seconds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.pretraining.corpus import CorpusConfig

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}


class Discs:
    """Clips of one coloured disc that moves over a gradient."""

    def __init__(self, version: int = 1):
        self.version = version
        self.drawn: list[str] = []

    @property
    def key(self) -> dict[str, str | int]:
        return {"name": "discs", "version": self.version}

    def draw(
        self, split: str, indices: Sequence[int], config: CorpusConfig
    ) -> Iterator[tuple[NDArray[np.uint8], str]]:
        for index in indices:
            self.drawn.append(f"{split}/{index}")
            rng = np.random.default_rng([index, split == "val", config.seed])
            name = list(COLOURS)[index % len(COLOURS)]
            side = "left" if rng.random() < 0.5 else "right"
            y, x = np.mgrid[: config.height, : config.width]
            clip = np.empty((config.frames, config.height, config.width, 3), np.uint8)
            for f in range(config.frames):
                clip[f] = (x * 255 // config.width)[..., None]
                centre = config.width * (0.25 if side == "left" else 0.75) + f
                disc = (x - centre) ** 2 + (y - config.height / 2) ** 2 < (config.height / 5) ** 2
                clip[f][disc] = COLOURS[name]
            yield clip, f"A {name} ball on the {side}."


def overrides(backbone: str, corpus: Path) -> list[str]:
    """Settings of a run small enough for a test."""
    frames = 5 if backbone == "nano-wan" else 1
    return [
        f"corpus.dir={corpus}",
        "corpus.train_clips=6",
        "corpus.val_clips=4",
        "corpus.shard_clips=4",
        f"corpus.frames={frames}",
        "corpus.height=32",
        "corpus.width=32",
        "corpus.walk=[0.5,0.5]",
        "train.log_every=1",
        "train.checkpoint_every=4",
        "train.warmup_steps=1",
        "train.precision=fp32",
    ]
