"""Pascal VOC's layout: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdiff_video.datasets.formats.writing import write_list
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import (
    Classes,
    LoadedImages,
    classes_of,
    pair_up,
    write_classes,
)
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError

_LISTS = Path("ImageSets") / "Segmentation"


def load_voc(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Load a split.

    A line of its list is a name, or (as DeepLab's lists of SBD) the paths of picture and label. The
    split ``trainaug``, VOC with SBD, takes labels from ``SegmentationClassAug``.

    Args:
        card: its classes hold where the root has no ``classes.txt``.
        root: the folder that holds ``ImageSets``, or ``VOC2012`` or ``VOCdevkit/VOC2012`` above it.
        split: stem of a list.
        labels: always class ids.

    Raises:
        InputError: no such list, or one with an odd line.
    """
    inner = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    root = next((folder for folder in inner if (folder / _LISTS).is_dir()), root)
    listed = root / _LISTS / f"{split}.txt"
    if not listed.is_file():
        raise InputError(f"no list '{listed}'; {card.title} must lie so:\n{card.layout.rstrip()}")
    classes = classes_of(card, root)
    folder = "SegmentationClassAug" if split == "trainaug" else "SegmentationClass"
    found = []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if len(words) == 1:
            name = words[0]
            image, label = root / "JPEGImages" / f"{name}.jpg", root / folder / f"{name}.png"
        elif len(words) == 2:
            image, label = (root / word.lstrip("/") for word in words)
            name = image.stem
        elif not words:
            continue
        else:
            raise InputError(f"{listed}, line {number}: expected a name or two paths, not '{line}'")
        found.append((name, image, label))
    return LoadedImages(*pair_up(found, labels.decoder(card, classes)), classes)


@dataclass(frozen=True)
class VOCLayout:
    """A :class:`mmdiff_video.datasets.formats.writing.PictureLayout`."""

    splits: tuple[str, str] = ("train", "val")
    only: str | None = "seg"

    def picture(self, root: Path, split: str, name: str) -> Path:
        return root / "JPEGImages" / f"{name}.jpg"

    def label(self, root: Path, split: str, name: str, kind: Labels) -> Path:
        return root / "SegmentationClass" / f"{name}.png"

    def finish(
        self, root: Path, names: Mapping[str, Sequence[str]], classes: Classes | None
    ) -> None:
        """Write a list for each split, and ``classes.txt``."""
        for split, members in names.items():
            write_list(root / _LISTS / f"{split}.txt", members)
        if classes is not None:
            write_classes(root / "classes.txt", classes)
