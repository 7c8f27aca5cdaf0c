"""Where a data set lies on this machine."""

import functools
import os
from pathlib import Path
from typing import Any, Protocol

from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_folder_aside
from mmdiff_video.resources import cache_dir
from mmdiff_video.rooms.make import make_rooms

_CLIPS: dict[str, Any] = {"scenes": 20, "width": 160, "height": 120}
_STILLS: dict[str, Any] = {
    "layout": "folders",
    "scenes": 240,
    "frames": 2,
    "width": 192,
    "height": 192,
}
"""What is made on the spot: material for minutes of training, drawn in a minute or less."""


class Card(Protocol):
    """What the cards of clips and of labelled pictures have in common."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


def find_root(card: Card, root: Path | str | None) -> Path:
    """Find the folder of a data set.

    Args:
        card: which data set: of clips or of labelled pictures.
        root: where the user says it lies. None: ``MMDIFF_DATA/<name>``; the procedural set is made
            on the spot, in the cache folder.

    Raises:
        InputError: nowhere.
    """
    how = f"`mmdiff-video data show {card.name}` says how it must lie"
    if root is not None:
        if not Path(root).is_dir():
            raise InputError(f"data root '{root}' is not a folder; {how}")
        return Path(root)
    if card.name == "rooms":
        if isinstance(card, ImageCard):
            return _rooms(cache_dir() / "room-stills", _STILLS)
        return _rooms(cache_dir() / "rooms", _CLIPS)
    if base := os.environ.get("MMDIFF_DATA"):
        return Path(base) / card.name
    raise InputError(
        f"{card.title} needs a data root: give --data-root DIR, or set MMDIFF_DATA to the folder"
        f" that holds {card.name}/; {how}"
    )


def _rooms(out: Path, settings: dict[str, Any]) -> Path:
    """Make a small set of rooms once; of several processes that start together, one wins."""
    make = functools.partial(make_rooms, **settings)
    if not out.exists():
        try:
            with write_folder_aside(out) as aside:
                make(aside)
        except OSError:
            if not out.exists():
                raise
    return make(out)  # sees that all is there
