"""Own pictures: for each split a folder of pictures, and one of labels with the same names."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmdiff_video.datasets.formats.voc import classes_of
from mmdiff_video.datasets.picture_files import (
    is_picture,
    read_depth,
    read_labels,
    read_mask,
)
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import LoadedImages, pair_up
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped

LABEL_FOLDERS = {"seg": "labels", "depth": "depth", "saliency": "masks"}


def load_folders(card: ImageCard, root: Path, split: str, task: str) -> LoadedImages:
    """Load ``SPLIT/images`` with ``SPLIT/labels``, ``SPLIT/depth`` or ``SPLIT/masks``.

    Raises:
        InputError: a folder is missing or empty, or (``seg``) there is no ``classes.txt``.
    """
    images, labels = root / split / "images", root / split / LABEL_FOLDERS[task]
    if task == "seg":
        classes = classes_of(card, root)
        decode = functools.partial(read_labels, classes=len(classes.names), void=classes.void)
        return match_folders(card, images, labels, decode)._replace(classes=classes)
    if task == "depth":
        return match_folders(
            card, images, labels, functools.partial(read_depth, unit=card.depth_unit)
        )
    return match_folders(card, images, labels, read_mask)


def match_folders(
    card: ImageCard, images: Path, labels: Path, decode: Callable[[Path], NDArray[Any]]
) -> LoadedImages:
    """Match the pictures of two folders by the stems of their names; labels are PNG.

    A picture without a label, or a label without a picture, is skipped with its reason.

    Raises:
        InputError: a folder is missing, or there is no picture in it.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise InputError(
                f"no folder '{folder}'; {card.title} must lie so:\n{card.layout.rstrip()}"
            )
    pictures = sorted(path for path in images.iterdir() if is_picture(path))
    if not pictures:
        raise InputError(f"there is no picture in '{images}'")
    found, skipped = pair_up(
        [(path.stem, path, labels / f"{path.stem}.png") for path in pictures], decode
    )
    stems = {path.stem for path in pictures}
    skipped += [
        Skipped(path.stem, f"no picture for '{path}'")
        for path in sorted(labels.iterdir())
        if is_picture(path) and path.stem not in stems
    ]
    return LoadedImages(found, skipped)
