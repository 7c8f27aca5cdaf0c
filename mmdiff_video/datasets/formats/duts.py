"""DUTS's layout: ``DUTS-TR/DUTS-TR-Image`` with ``DUTS-TR/DUTS-TR-Mask``, ``DUTS-TE`` likewise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdiff_video.datasets.formats.folders import match_folders
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes, LoadedImages
from mmdiff_video.datasets.pictures.labels import Labels

_PARTS = {"train": "DUTS-TR", "test": "DUTS-TE"}


def load_duts(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Load a split; ``labels`` are always masks.

    Raises:
        InputError: a folder is missing or empty.
    """
    images, masks = _folders(root, split)
    return match_folders(card, images, masks, labels, None)


@dataclass(frozen=True)
class DUTSLayout:
    """A :class:`mmdiff_video.datasets.formats.writing.PictureLayout`."""

    splits: tuple[str, str] = ("train", "test")
    only: str | None = "saliency"

    def picture(self, root: Path, split: str, name: str) -> Path:
        return _folders(root, split)[0] / f"{name}.jpg"

    def label(self, root: Path, split: str, name: str, kind: Labels) -> Path:
        return _folders(root, split)[1] / f"{name}.png"

    def finish(
        self, root: Path, names: Mapping[str, Sequence[str]], classes: Classes | None
    ) -> None:
        """Write nothing: the folders are the lists."""


def _folders(root: Path, split: str) -> tuple[Path, Path]:
    part = _PARTS[split]
    return root / part / f"{part}-Image", root / part / f"{part}-Mask"
