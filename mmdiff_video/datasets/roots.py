"""Where a data set lies on this machine."""

import functools
import os
from pathlib import Path

from mmdiff_video.datasets.card import DatasetCard
from mmdiff_video.datasets.rooms.make import make_rooms
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_folder_aside
from mmdiff_video.resources import cache_dir

_SCENES = 20
_WIDTH, _HEIGHT = 160, 120
"""What is made on the spot: material for minutes of training, drawn in seconds."""


def find_root(card: DatasetCard, root: Path | str | None) -> Path:
    """Find the folder of a data set.

    Args:
        card: which data set.
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
        return _rooms(cache_dir() / "rooms")
    if base := os.environ.get("MMDIFF_DATA"):
        return Path(base) / card.name
    raise InputError(
        f"{card.title} needs a data root: give --data-root DIR, or set MMDIFF_DATA to the folder"
        f" that holds {card.name}/; {how}"
    )


def _rooms(out: Path) -> Path:
    """Make a small set of rooms once; of several processes that start together, one wins."""
    make = functools.partial(make_rooms, scenes=_SCENES, width=_WIDTH, height=_HEIGHT)
    if not out.exists():
        try:
            with write_folder_aside(out) as aside:
                make(aside)
        except OSError:
            if not out.exists():
                raise
    return make(out)  # sees that all is there
