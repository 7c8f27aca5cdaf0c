"""What a data set has to caption: every picture of every split, and the middle frame of clips."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.catalogue import card_of
from mmdiff_video.datasets.clips.clip import PosedClip
from mmdiff_video.datasets.loading import load_images, load_split
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.errors import InputError
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.skipped import Skipped
from mmdiff_video.tasks import labels_of


class Subject(NamedTuple):
    """A picture to caption.

    Attributes:
        key: the caption's.
        place: where it lies; no two pictures share it.
        read: gives uint8 [H, W, 3], or raises ``PictureError`` or ``ClipError``.
    """

    key: str
    place: Hashable
    read: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class Subjects:
    """What was found.

    Attributes:
        title: of the data set.
        found: in the order of the splits, each key once.
        skipped: what cannot be captioned.
    """

    title: str
    found: list[Subject]
    skipped: list[Skipped]


class _Part(NamedTuple):
    """Subjects of a split for one task, and what its reader left out."""

    split: str
    found: list[Subject]
    skipped: list[Skipped]


def root_of(name: str, root: Path | None) -> Path:
    """Find the folder of a data set.

    Raises:
        InputError: no data set of that name, or no folder.
    """
    return find_or_make_root(card_of(name, root), root)


def find_subjects(name: str, root: Path) -> Subjects:
    """Find what a data set has to caption.

    Of pictures all splits that are there, labelled for whichever task; of clips those that training
    and evaluation take unless a config says otherwise.

    Args:
        name: of its card.
        root: the data root.

    Raises:
        InputError: no data set of that name, or no split can be looked into.
    """
    card = card_of(name, root)
    if isinstance(card, ImageCard):
        wanted = [(split, task) for split in card.splits for task in card.tasks]
    else:
        wanted = [(split, "") for split in card.splits]
    parts: list[_Part] = []
    problems: list[InputError] = []
    for split, task in wanted:
        try:
            if isinstance(card, ImageCard):
                images = load_images(card, root, split, labels_of(task))
                found = [Subject(i.key, i.pair.place, i.pair.read_image) for i in images.images]
                parts.append(_Part(split, found, images.skipped))
            else:
                clips = load_split(card, root, split)
                found = [Subject(clip.key, clip.frames, _middle(clip)) for clip in clips.clips]
                parts.append(_Part(split, found, clips.skipped))
        except InputError as error:
            problems.append(error)
    if not parts:
        raise problems[0]
    return Subjects(card.title, *_joined(parts))


def _middle(clip: PosedClip) -> Callable[[], NDArray[np.uint8]]:
    return lambda: clip.read([clip.num_frames // 2])[0]


def _joined(parts: list[_Part]) -> tuple[list[Subject], list[Skipped]]:
    """Take each key once; a second picture of the same key would get the caption of the first."""
    taken: dict[str, tuple[Subject, str]] = {}
    skipped: dict[str, str] = {}
    for split, subject in _each(parts):
        first, first_split = taken.setdefault(subject.key, (subject, split))
        if first.place != subject.place:
            skipped[f"{split}:{subject.key}"] = (
                f"split '{first_split}' has another picture of that name, and gets the caption"
            )
    for part in parts:
        skipped |= {key: reason for key, reason in part.skipped if key not in taken}
    return [subject for subject, _ in taken.values()], [Skipped(*item) for item in skipped.items()]


def _each(parts: list[_Part]) -> Iterator[tuple[str, Subject]]:
    for part in parts:
        for subject in part.found:
            yield part.split, subject
