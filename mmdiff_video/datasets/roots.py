"""Where a data set lies on this machine."""

import os
from pathlib import Path

from mmdiff_video.datasets.card import DatasetCard
from mmdiff_video.datasets.primitives import make_primitives
from mmdiff_video.errors import InputError
from mmdiff_video.resources import cache_dir


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
    if card.name == "primitives":
        return make_primitives(cache_dir() / "primitives")
    if base := os.environ.get("MMDIFF_DATA"):
        return Path(base) / card.name
    raise InputError(
        f"{card.title} needs a data root: give --data-root DIR, or set MMDIFF_DATA to the folder"
        f" that holds {card.name}/; {how}"
    )
