"""A small set of rooms in the cache folder, for whoever names no data of their own."""

from pathlib import Path
from typing import Any

from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.roots import Card, find_root
from mmdiff_video.files import remove_stale_partials
from mmdiff_video.resources import cache_dir
from mmdiff_video.rooms.layouts import LAYOUTS
from mmdiff_video.rooms.make import make_rooms

ROOMS = "rooms"
"""Name of the cards of rooms: of clips, and of labelled pictures."""

_CLIPS: dict[str, Any] = {"layout": "re10k", "scenes": 20, "width": 160, "height": 120}
_STILLS: dict[str, Any] = {
    "layout": "folders",
    "scenes": 240,
    "frames": 2,
    "width": 192,
    "height": 192,
}
"""What is made: material for minutes of training, drawn in a minute or less."""


def find_or_make_root(card: Card, root: Path | str | None) -> Path:
    """Find the folder of a data set; rooms are made on the spot where no folder is named.

    The name of the folder of stills says what they are labelled with, so that a task that the
    program has learnt since gets a set of its own.

    Args:
        card: which data set: of clips or of labelled pictures.
        root: where the user says it lies; None: see
            :func:`mmdiff_video.datasets.roots.find_root`, and above.

    Raises:
        InputError: ``root`` is no folder, or none is named and the data set is not rooms.
    """
    if root is not None or card.name != ROOMS:
        return find_root(card, root)
    if isinstance(card, ImageCard):
        kinds = "-".join(LAYOUTS[_STILLS["layout"]].labels)
        return _made(cache_dir() / f"room-stills-{kinds}", _STILLS)
    return _made(cache_dir() / "rooms", _CLIPS)


def _made(out: Path, settings: dict[str, Any]) -> Path:
    """Make a small set of rooms once, or finish it; a second process waits for the first."""
    remove_stale_partials(out.parent)  # version 0.1.0 made them aside
    return make_rooms(out, **settings, wait=True)
