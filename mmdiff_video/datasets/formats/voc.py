"""Pascal VOC's layout: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation``."""

import functools
from pathlib import Path

from mmdiff_video.datasets.picture_files import read_labels
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import (
    Classes,
    LoadedImages,
    pair_up,
    read_classes,
    voc_colors,
)
from mmdiff_video.errors import InputError

_LISTS = Path("ImageSets") / "Segmentation"


def load_voc(card: ImageCard, root: Path, split: str, task: str) -> LoadedImages:
    """Load a split.

    A line of its list is a name, or (as DeepLab's lists of SBD) the paths of picture and label. The
    split ``trainaug``, VOC with SBD, takes labels from ``SegmentationClassAug``.

    Args:
        card: its classes hold where the root has no ``classes.txt``.
        root: the folder that holds ``ImageSets``, or ``VOC2012`` or ``VOCdevkit/VOC2012`` above it.
        split: stem of a list.
        task: always ``seg``.

    Raises:
        InputError: no such list, or one with an odd line.
    """
    inner = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    root = next((folder for folder in inner if (folder / _LISTS).is_dir()), root)
    listed = root / _LISTS / f"{split}.txt"
    if not listed.is_file():
        raise InputError(f"no list '{listed}'; {card.title} must lie so:\n{card.layout.rstrip()}")
    classes = classes_of(card, root)
    labels = "SegmentationClassAug" if split == "trainaug" else "SegmentationClass"
    found = []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if len(words) == 1:
            name = words[0]
            image, label = root / "JPEGImages" / f"{name}.jpg", root / labels / f"{name}.png"
        elif len(words) == 2:
            image, label = (root / word.lstrip("/") for word in words)
            name = image.stem
        elif not words:
            continue
        else:
            raise InputError(f"{listed}, line {number}: expected a name or two paths, not '{line}'")
        found.append((name, image, label))
    decode = functools.partial(read_labels, classes=len(classes.names), void=classes.void)
    return LoadedImages(*pair_up(found, decode), classes)


def classes_of(card: ImageCard, root: Path) -> Classes:
    """Read the classes of a data root: from its ``classes.txt``, else from the card.

    Raises:
        InputError: neither names any, or a broken ``classes.txt``.
    """
    if (root / "classes.txt").is_file():
        return read_classes(root / "classes.txt")._replace(void=card.void)
    if not card.classes:
        raise InputError(f"no '{root / 'classes.txt'}': it names the classes, one a line")
    return Classes(tuple(card.classes), voc_colors(len(card.classes)), card.void)
