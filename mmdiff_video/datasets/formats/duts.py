"""DUTS's layout: ``DUTS-TR/DUTS-TR-Image`` with ``DUTS-TR/DUTS-TR-Mask``, ``DUTS-TE`` likewise."""

from pathlib import Path

from mmdiff_video.datasets.formats.folders import match_folders
from mmdiff_video.datasets.picture_files import read_mask
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import LoadedImages

_PARTS = {"train": "DUTS-TR", "test": "DUTS-TE"}


def load_duts(card: ImageCard, root: Path, split: str, task: str) -> LoadedImages:
    """Load a split; ``task`` is always ``saliency``.

    Raises:
        InputError: a folder is missing or empty.
    """
    part = _PARTS[split]
    folder = root / part
    return match_folders(card, folder / f"{part}-Image", folder / f"{part}-Mask", read_mask)
