"""The procedural rooms as a source of clips."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.pretraining.corpus import CorpusConfig


class RoomClips:
    """Renders clips of ``mmdiff_video.datasets.rooms``."""

    @property
    def key(self) -> dict[str, str]:
        """The generator, and what changes with the rooms that it makes."""
        from mmdiff_video.datasets.rooms import make_room, scene_hash

        return {"name": "rooms", "scene": scene_hash(make_room(split="train", index=0, seed=0))}

    def render(
        self, split: str, indices: Sequence[int], config: CorpusConfig
    ) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """Render the rooms of these indices, on all cores."""
        from mmdiff_video.datasets.rooms import make_room, render_rooms

        rooms = [make_room(split=split, index=i, seed=config.seed) for i in indices]
        clips = render_rooms(rooms, frames=config.frames, height=config.height, width=config.width)
        for clip in clips:
            yield clip.rgb, clip.caption
