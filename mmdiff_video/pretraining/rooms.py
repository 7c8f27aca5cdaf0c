"""The procedural rooms as the source of a corpus."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mmdiff_video import rooms
from mmdiff_video.pretraining.corpus import CorpusConfig
from mmdiff_video.seeds import stable_seed

_HASHED = 16
"""How many rooms are hashed to tell one version of the generator from another, in half a second.

Together they hold every kind of furniture: a change to a kind that none of them holds would go
unnoticed.
"""


class RoomSource:
    """Draws the clips of a corpus: a :class:`mmdiff_video.pretraining.corpus.ClipSource`."""

    @property
    def key(self) -> dict[str, str | int]:
        """Name of the generator, and what changes when it makes or draws rooms otherwise."""
        return {
            "name": "rooms",
            "scenes": _scenes(),
            "drawing": rooms.DRAWING,
            "spans": "of each room, with the middle of its walk",
        }

    def draw(
        self, split: str, indices: Sequence[int], config: CorpusConfig
    ) -> Iterator[tuple[NDArray[np.uint8], str]]:
        clips = rooms.draw_rooms(
            (rooms.make_room(split, index, config.seed) for index in indices),
            frames=config.frames,
            height=config.height,
            width=config.width,
            spans=[_span(split, index, config) for index in indices],
        )
        for clip in clips:
            yield clip.rgb, clip.caption


@cache
def _scenes() -> str:
    """Hash the descriptions of some rooms, with their captions."""
    hashes = [rooms.scene_hash(rooms.make_room("train", index)) for index in range(_HASHED)]
    return hashlib.blake2b("".join(hashes).encode(), digest_size=8).hexdigest()


def _span(split: str, index: int, config: CorpusConfig) -> tuple[float, float]:
    """Choose a part of a room's walk with its middle in it, which the caption describes."""
    rng = np.random.default_rng(stable_seed("walk", config.seed, split, index))
    share = rng.uniform(*config.walk)
    start = rng.uniform(max(0.5 - share, 0), min(0.5, 1 - share))
    return start, min(start + share, 1.0)
