"""Load a split of a data set: by the layout that its card names, with its captions."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mmdiff_video.checks import check_least
from mmdiff_video.datasets.captions import caption_finder
from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.clips.clip import LoadedClips
from mmdiff_video.datasets.formats.duts import load_duts
from mmdiff_video.datasets.formats.folders import load_folders
from mmdiff_video.datasets.formats.nyu import load_nyu
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.datasets.formats.voc import load_voc
from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import LoadedImages
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.skipped import reasons


class ClipReader(Protocol):
    """Finds the clips of one split and checks their cameras; decodes no more than a first frame."""

    def __call__(
        self, root: Path, split: str, *, max_clips: int | None = None, split_seed: int = 0
    ) -> LoadedClips:
        """Load a split; :func:`mmdiff_video.datasets.formats.re10k.load_re10k` says how."""
        ...


CLIP_READERS: dict[str, ClipReader] = {"re10k": load_re10k}
"""What the ``reader`` of a card of posed clips may say."""


def reader_of(card: DatasetCard) -> ClipReader:
    """Find the reader of a card of posed clips.

    Raises:
        InputError: there is none of that name.
    """
    if card.reader not in CLIP_READERS:
        raise unknown_name("reader", card.reader, CLIP_READERS)
    return CLIP_READERS[card.reader]


def load_split(
    card: DatasetCard,
    root: Path,
    split: str,
    *,
    max_clips: int | None = None,
    split_seed: int = 0,
) -> LoadedClips:
    """Load one split of a data set, with the captions of the root's ``captions.jsonl``, if any.

    Args:
        card: says which reader, and which splits there are.
        root: the data root.
        split: a split that the card names.
        max_clips: how many clips; None: as many as the card says for this split.
        split_seed: which ones.

    Raises:
        InputError: unknown split or reader, ``max_clips`` below 1, a root that does not lie as it
            must, no usable clip, broken captions.
    """
    card.check_split(split)
    if max_clips is not None:
        check_least("max_clips", max_clips, 1)
    limit = card.splits[split] if max_clips is None else max_clips
    caption_of = caption_finder(root)
    loaded = reader_of(card)(root, split, max_clips=limit, split_seed=split_seed)
    if not loaded.clips:
        raise InputError(f"no usable clip in split '{split}' of '{root}'{reasons(loaded.skipped)}")
    clips = [replace(clip, caption=caption_of(clip.key)) for clip in loaded.clips]
    return LoadedClips(clips, loaded.skipped)


class PictureReader(Protocol):
    """Finds the pictures of one split and their labels of one kind; decodes nothing yet."""

    def __call__(self, card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
        """Load a split that the card names; it may turn out that no picture is usable."""
        ...


PICTURE_READERS: dict[str, PictureReader] = {
    "voc": load_voc,
    "duts": load_duts,
    "nyu": load_nyu,
    "folders": load_folders,
}
"""What the ``reader`` of a card of labelled pictures may say."""


def find_images(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Find the pictures of one split, with the captions of the root's ``captions.jsonl``, if any.

    Args:
        card: says which reader, and which splits and labels there are.
        root: the data root.
        split: a split that the card names.
        labels: of a kind that the card names.

    Returns:
        pictures in order of their keys; it may be that none is usable.

    Raises:
        InputError: unknown split, labels or reader, a root that does not lie as it must, broken
            captions.
    """
    card.check(split, labels.name)
    if card.reader not in PICTURE_READERS:
        raise unknown_name("reader", card.reader, PICTURE_READERS)
    loaded = PICTURE_READERS[card.reader](card, Path(root), split, labels)
    caption_of = caption_finder(root)
    images = [replace(image, caption=caption_of(image.key)) for image in loaded.images]
    return loaded._replace(images=sorted(images, key=lambda image: image.key))


def load_images(
    card: ImageCard,
    root: Path,
    split: str,
    labels: Labels,
    *,
    max_images: int | None = None,
    split_seed: int = 0,
) -> LoadedImages:
    """Load one split as :func:`find_images`, or a part of it.

    Args:
        card, root, split, labels: which.
        max_images: a seeded choice of this many; None: all.
        split_seed: the choice depends on it.

    Raises:
        InputError: as :func:`find_images`; ``max_images`` below 1, no usable picture.
    """
    if max_images is not None:
        check_least("max_images", max_images, 1)
    loaded = find_images(card, root, split, labels)
    images = loaded.images
    if not images:
        raise InputError(
            f"no usable picture in split '{split}' of '{shown(root)}'{reasons(loaded.skipped)}"
        )
    if max_images is not None and max_images < len(images):
        chosen = random.Random(split_seed).sample(range(len(images)), max_images)
        images = [images[i] for i in sorted(chosen)]
    return loaded._replace(images=images)
