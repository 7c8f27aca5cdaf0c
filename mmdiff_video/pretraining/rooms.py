"""The procedural rooms as a source of clips."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.pretraining.corpus import CorpusConfig
from mmdiff_video.training.data import stable_seed


class RoomClips:
    """Renders clips of ``mmdiff_video.datasets.rooms``."""

    @property
    def key(self) -> dict[str, str | int]:
        """The generator, and what changes with the rooms that it makes and draws."""
        from mmdiff_video.datasets.rooms import DRAWING, make_room, scene_hash

        return {
            "name": "rooms",
            "scene": scene_hash(make_room("train", 0)),
            "drawing": DRAWING,
        }

    def render(
        self, split: str, indices: Sequence[int], config: CorpusConfig
    ) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """Render the rooms of these indices, on all cores, along one part of their walks."""
        from mmdiff_video.datasets.rooms import make_room, render_rooms

        rng = np.random.default_rng(stable_seed("walk", config.seed, split, indices[0]))
        share = rng.uniform(*config.walk)
        start = rng.uniform(0, 1 - share)
        clips = render_rooms(
            (make_room(split, index, config.seed) for index in indices),
            frames=config.frames,
            height=config.height,
            width=config.width,
            span=(start, start + share),
        )
        for clip in clips:
            yield clip.rgb, clip.caption
