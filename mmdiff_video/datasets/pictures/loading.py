"""The layouts of labelled pictures by name: what a card's ``reader`` field may say."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mmdiff_video.checks import check_least
from mmdiff_video.datasets.captions import read_captions
from mmdiff_video.datasets.formats.duts import load_duts
from mmdiff_video.datasets.formats.folders import load_folders
from mmdiff_video.datasets.formats.nyu import load_nyu
from mmdiff_video.datasets.formats.voc import load_voc
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import LoadedImages
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.skipped import reasons


class ImageReader(Protocol):
    """Finds the pictures of one split and their labels of one kind; decodes nothing yet."""

    def __call__(self, card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
        """Load a split that the card names; it may turn out that no picture is usable."""
        ...


READERS: dict[str, ImageReader] = {
    "voc": load_voc,
    "duts": load_duts,
    "nyu": load_nyu,
    "folders": load_folders,
}


def load_images(
    card: ImageCard,
    root: Path,
    split: str,
    labels: Labels,
    *,
    max_images: int | None = None,
    split_seed: int = 0,
) -> LoadedImages:
    """Load one split, with the captions of the root's ``captions.jsonl``, if any.

    Args:
        card: says which reader, and which splits and labels there are.
        root: the data root.
        split: a split that the card names.
        labels: of a kind that the card names.
        max_images: a seeded choice of this many; None: all.
        split_seed: which ones.

    Raises:
        InputError: unknown split, labels or reader, ``max_images`` below 1, a root that does not
            lie as it must, no usable picture, broken captions.
    """
    card.check(split, labels.name)
    if max_images is not None:
        check_least("max_images", max_images, 1)
    if card.reader not in READERS:
        raise unknown_name("reader", card.reader, READERS)
    loaded = READERS[card.reader](card, Path(root), split, labels)
    images = sorted(loaded.images, key=lambda image: image.key)
    if not images:
        raise InputError(
            f"no usable picture in split '{split}' of '{root}'{reasons(loaded.skipped)}"
        )
    if max_images is not None and max_images < len(images):
        chosen = random.Random(split_seed).sample(range(len(images)), max_images)
        images = [images[i] for i in sorted(chosen)]
    captions = read_captions(root)
    images = [replace(image, caption=captions.get(image.key)) for image in images]
    return loaded._replace(images=images)
