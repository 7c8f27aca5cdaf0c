"""The file formats by name: what a dataset card's ``reader`` field may say."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mmdiff_video.checks import check_least
from mmdiff_video.datasets.captions import read_captions
from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.clips.clip import LoadedClips
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.skipped import reasons


class Reader(Protocol):
    """Loads one split; :func:`mmdiff_video.datasets.formats.re10k.load_re10k` has the contract."""

    def __call__(
        self, root: Path, split: str, *, max_clips: int | None = None, split_seed: int = 0
    ) -> LoadedClips:
        """Load a split; it may turn out that no clip of it is usable."""
        ...


READERS: dict[str, Reader] = {"re10k": load_re10k}


def reader_of(card: DatasetCard) -> Reader:
    """Return the card's reader.

    Raises:
        InputError: there is none of that name.
    """
    if card.reader not in READERS:
        raise unknown_name("reader", card.reader, READERS)
    return READERS[card.reader]


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
    loaded = reader_of(card)(root, split, max_clips=limit, split_seed=split_seed)
    if not loaded.clips:
        raise InputError(f"no usable clip in split '{split}' of '{root}'{reasons(loaded.skipped)}")
    captions = read_captions(root)
    clips = [replace(clip, caption=captions.get(clip.key)) for clip in loaded.clips]
    return LoadedClips(clips, loaded.skipped)
