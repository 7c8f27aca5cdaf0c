"""Pascal VOC's layout: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdiff_video.datasets.formats.writing import write_list
from mmdiff_video.datasets.lists import read_list
from mmdiff_video.datasets.names import (
    Folders,
    NotFoundError,
    inside,
    is_folder,
    key_of,
    shown,
    spelling,
    why_missing,
)
from mmdiff_video.datasets.picture_files import SUFFIXES
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import (
    Classes,
    LoadedImages,
    classes_of,
    write_classes,
)
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.datasets.pictures.pairing import Entry, label_suffixes, listed_pair, pair_up
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped

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
        InputError: no such list, or one that is not UTF-8.
    """
    inner = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    root = next((folder for folder in inner if is_folder(folder / _LISTS)), root)
    listed = root / _LISTS / f"{split}.txt"
    if why_missing(listed):
        raise InputError(
            f"no list '{shown(listed)}'; {card.title} must lie so:\n{card.layout.rstrip()}"
        )
    classes = classes_of(card, root)
    folder = root / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
    folders = Folders()
    found = [_entry(folders, root, folder, line, labels) for _, line in read_list(listed)]
    return LoadedImages(*pair_up(found, labels.decoder(card, classes)), classes)


def _entry(
    folders: Folders, root: Path, folder: Path, line: str, labels: Labels
) -> Entry | Skipped:
    """Read a line: a name, which may hold spaces; or, if no picture is called so, two paths."""
    pictures = root / "JPEGImages"
    try:
        place = inside(pictures, line)
        stems = [place.name, place.stem] if place.suffix.lower() in SUFFIXES else [place.name]
        there = [stem for stem in stems if spelling(stem) in folders.files(place.parent)]
        if not there and (pair := listed_pair(folders, root, line, labels)):
            name, image, label = pair
            return Entry(key_of(Path(name).stem), image, label)
        place = place.with_name((there or stems)[0])
        image = folders.find(place.parent, place.name, SUFFIXES)
        inner = place.relative_to(pictures)
        label = folders.find(folder / inner.parent, place.name, label_suffixes(labels))
        return Entry(key_of(inner.as_posix()), image, label)
    except NotFoundError as error:
        return Skipped(key_of(line), str(error))


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
