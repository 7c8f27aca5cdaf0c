"""Find the files of pictures and their labels, in folders and by lists."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mmdiff_video.datasets.lists import two_paths
from mmdiff_video.datasets.names import Folders, NotFoundError, inside, shown, why_missing
from mmdiff_video.datasets.picture_files import SUFFIXES
from mmdiff_video.datasets.pictures.labelled import FilePair, LabelledImage
from mmdiff_video.datasets.pictures.labels import Decode, Labels
from mmdiff_video.skipped import Skipped


class Entry(NamedTuple):
    """The place of a picture and of its label, which need not be there."""

    key: str
    image: Path
    label: Path


def pair_up(
    found: Iterable[Entry | Skipped], decode: Decode
) -> tuple[list[LabelledImage], list[Skipped]]:
    """Tell the entries whose files are there from the others.

    Args:
        found: in any order. Of several with one key, the first is taken.
        decode: turns a label file into values [C, H, W].

    Returns:
        pictures in the order given, and the others with what is missing.
    """
    images: list[LabelledImage] = []
    skipped: list[Skipped] = []
    seen: dict[str, Path] = {}
    for entry in found:
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        key, image, label = entry
        missing = why_missing(image) or why_missing(label)
        if key in seen:
            which = "" if seen[key] == image else f": '{shown(seen[key])}', not '{shown(image)}'"
            skipped.append(Skipped(key, f"it comes twice, and is taken once{which}"))
        elif missing:
            skipped.append(Skipped(key, missing))
        else:
            seen[key] = image
            images.append(LabelledImage(key=key, pair=FilePair(image, label, decode)))
    return images, skipped


def label_suffixes(labels: Labels) -> tuple[str, ...]:
    """Ends of the names of label files, in the order in which they are taken."""
    return tuple(dict.fromkeys((*labels.suffixes, *SUFFIXES)))


def listed_pair(
    folders: Folders, root: Path, line: str, labels: Labels
) -> tuple[str, Path, Path] | None:
    """Find the two files that a line of a list names.

    Args:
        folders: of the data set.
        root: that paths are relative to, also those that begin with a slash.
        line: path of a picture, path of its label.
        labels: of what kind.

    Returns:
        the picture's path as the line has it, and both files; None for a line of another kind.

    Raises:
        NotFoundError: one of them is not there, or leads out of the root.
    """
    reason: NotFoundError | None = None
    for image, label in two_paths(line, (SUFFIXES, label_suffixes(labels))):
        try:
            return (
                image,
                folders.resolve(inside(root, image)),
                folders.resolve(inside(root, label)),
            )
        except NotFoundError as error:
            reason = reason or error
    if reason is not None:
        raise reason
    return None
