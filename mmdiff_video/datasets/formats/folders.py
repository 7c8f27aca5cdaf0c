"""Own pictures: for each split a folder of pictures, and one of labels with the same names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdiff_video.datasets.names import (
    Folders,
    NotFoundError,
    is_folder,
    key_of,
    several,
    shown,
)
from mmdiff_video.datasets.picture_files import is_picture
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import (
    Classes,
    LoadedImages,
    classes_of,
    write_classes,
)
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.datasets.pictures.pairing import Entry, label_suffixes, pair_up
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped

_UNREAD = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".exr", ".hdr", ".psd", ".svg")
"""Names of pictures of kinds that are not read end like this."""


def load_folders(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Load ``SPLIT/images`` with the folder of the labels' kind beside it.

    Raises:
        InputError: a folder is missing or empty, or labels are class ids and there is no
            ``classes.txt``.
    """
    classes = classes_of(card, root) if labels.has_classes else None
    return match_folders(
        card, root / split / "images", root / split / labels.folder, labels, classes
    )


def match_folders(
    card: ImageCard, images: Path, folder: Path, labels: Labels, classes: Classes | None
) -> LoadedImages:
    """Match the pictures of two folders by the stems of their names.

    A picture without a label, a label without a picture, and what is there twice is skipped with
    its reason.

    Args:
        card: of the data set.
        images, folder: where pictures and labels lie.
        labels: of what kind.
        classes: of the class ids, where there are any.

    Raises:
        InputError: a folder is missing, or there is no picture in it.
    """
    for needed in (images, folder):
        if not is_folder(needed):
            raise InputError(
                f"no folder '{shown(needed)}'; {card.title} must lie so:\n{card.layout.rstrip()}"
            )
    folders = Folders()
    found = list(_entries(folders, images, folder, label_suffixes(labels)))
    if not any(map(is_picture, images.iterdir())):
        raise InputError(f"there is no picture in '{shown(images)}'")
    usable, skipped = pair_up(found, labels.decoder(card, classes))
    return LoadedImages(usable, skipped, classes)


def _entries(
    folders: Folders, images: Path, labels: Path, suffixes: Sequence[str]
) -> Iterator[Entry | Skipped]:
    for stem, paths in folders.files(images).items():
        key = key_of(stem)
        pictures = [path for path in paths if is_picture(path)]
        unread = [path for path in paths if path.suffix.lower() in _UNREAD]
        if len(pictures) > 1:
            yield Skipped(key, several(pictures))
        elif pictures:
            try:
                yield Entry(key, pictures[0], folders.find(labels, stem, suffixes))
            except NotFoundError as error:
                yield Skipped(key, str(error))
        elif unread:
            kind = unread[0].suffix
            yield Skipped(key, f"'{shown(unread[0])}': {kind} is not read; make it a JPEG or PNG")
    for stem, paths in folders.files(labels).items():
        alone = [path for path in paths if path.suffix.lower() in suffixes]
        if alone and stem not in folders.files(images):
            yield Skipped(key_of(stem), f"no picture for '{shown(alone[0])}'")


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
