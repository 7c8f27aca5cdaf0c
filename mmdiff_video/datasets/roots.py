"""Where a data set lies on this machine."""

import os
from pathlib import Path
from typing import Protocol

from mmdiff_video.datasets.names import is_folder, shown
from mmdiff_video.errors import InputError


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
        root: where the user says it lies. None: ``<name>`` below the folder that the environment
            variable ``MMDIFF_DATA`` names; whether it is there, the reader will see.

    Raises:
        InputError: ``root`` is no folder, or neither it nor ``MMDIFF_DATA`` is given.
    """
    how = f"`mmdiff-video data show {card.name}` says how it must lie"
    if root is not None:
        if not is_folder(Path(root)):
            raise InputError(f"data root '{shown(root)}' is not a folder; {how}")
        return Path(root)
    if base := os.environ.get("MMDIFF_DATA"):
        return Path(base) / card.name
    raise InputError(
        f"{card.title} needs a data root: give --data-root DIR, or set MMDIFF_DATA to the folder"
        f" that holds {card.name}/; {how}"
    )
