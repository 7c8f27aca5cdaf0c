"""Own pictures: for each split a folder of pictures, and one of labels with the same names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdiff_video.datasets.picture_files import is_picture
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import (
    Classes,
    LoadedImages,
    classes_of,
    pair_up,
    write_classes,
)
from mmdiff_video.datasets.pictures.labels import Decode, Labels
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped


def load_folders(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Load ``SPLIT/images`` with the folder of the labels' kind beside it.

    Raises:
        InputError: a folder is missing or empty, or labels are class ids and there is no
            ``classes.txt``.
    """
    classes = classes_of(card, root) if labels.has_classes else None
    decode = labels.decoder(card, classes)
    images, folder = root / split / "images", root / split / labels.folder
    found = match_folders(card, images, folder, labels.suffixes, decode)
    return found._replace(classes=classes)


def match_folders(
    card: ImageCard, images: Path, labels: Path, suffixes: Sequence[str], decode: Decode
) -> LoadedImages:
    """Match the pictures of two folders by the stems of their names.

    A picture without a label, or a label without a picture, is skipped with its reason.

    Args:
        card: of the data set.
        images, labels: the folders.
        suffixes: of the names of labels; where there are several files, the first counts.
        decode: reads a label.

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
    there = {path.name for path in labels.iterdir() if not path.name.startswith(".")}

    def label_of(stem: str) -> Path:
        names = [f"{stem}{suffix}" for suffix in suffixes]
        return labels / next((name for name in names if name in there), names[0])

    found, skipped = pair_up([(path.stem, path, label_of(path.stem)) for path in pictures], decode)
    stems = {path.stem for path in pictures}
    left = (labels / name for name in sorted(there))
    skipped += [
        Skipped(path.stem, f"no picture for '{path}'")
        for path in left
        if (is_picture(path) or path.suffix in suffixes) and path.stem not in stems
    ]
    return LoadedImages(found, skipped)


@dataclass(frozen=True)
class FolderLayout:
    """A :class:`mmdiff_video.datasets.formats.writing.PictureLayout`."""

    splits: tuple[str, str] = ("train", "test")
    only: str | None = None

    def picture(self, root: Path, split: str, name: str) -> Path:
        return root / split / "images" / f"{name}.jpg"

    def label(self, root: Path, split: str, name: str, kind: Labels) -> Path:
        return root / split / kind.folder / f"{name}{kind.suffixes[0]}"

    def finish(
        self, root: Path, names: Mapping[str, Sequence[str]], classes: Classes | None
    ) -> None:
        """Write ``classes.txt``; the folders are the lists."""
        if classes is not None:
            write_classes(root / "classes.txt", classes)
