"""The one type every data set of labelled pictures is converted to at its own border."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.lists import read_list
from mmdiff_video.datasets.names import shown, why_missing
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_text
from mmdiff_video.skipped import Skipped

_NUMBER = re.compile(r"[0-9]{1,9}")
"""Python's own notion of digits has more of them, which are no numbers to it."""

_MOST_ELONGATED = 50
"""One side of a picture may be this many times the other: it is resized to cover a view."""


class Pair(Protocol):
    """Where a picture and its label come from. Must survive pickling: workers get a copy.

    Attributes:
        place: where the picture lies; no two pictures share it.
    """

    @property
    def place(self) -> str: ...

    def read_image(self) -> NDArray[np.uint8]:
        """Read the picture alone, uint8 [H, W, 3].

        Raises:
            PictureError: it cannot be used.
        """
        ...

    def read(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Read uint8 [H, W, 3] and the label [C, H, W].

        Raises:
            PictureError: one of them cannot be used.
        """
        ...


@dataclass(frozen=True)
class FilePair:
    """A picture file and a label file; ``decode`` turns the latter into values [C, H, W]."""

    image: Path
    label: Path
    decode: Callable[[Path], NDArray[Any]]

    @property
    def place(self) -> str:
        return str(self.image)

    def read_image(self) -> NDArray[np.uint8]:
        return read_rgb(self.image)

    def read(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        return self.read_image(), self.decode(self.label)


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """A picture with a label for every pixel.

    Attributes:
        key: unique within its data set.
        pair: decodes both on demand.
        caption: what the data root's captions say of it; None: nothing.
    """

    key: str
    pair: Pair
    caption: str | None = None

    def read(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Read uint8 [H, W, 3] and the label [C, H, W].

        Raises:
            PictureError: one of them cannot be used, or they are of different sizes.
        """
        image, label = self.pair.read()
        if image.shape[:2] != label.shape[1:]:
            sizes = [f"{size[1]}x{size[0]}" for size in (image.shape, label.shape[1:])]
            raise PictureError(f"the picture is {sizes[0]} pixels, its label {sizes[1]}")
        height, width = image.shape[:2]
        if max(height, width) > _MOST_ELONGATED * min(height, width):
            raise PictureError(
                f"the picture is {width}x{height} pixels: one side is more than {_MOST_ELONGATED}"
                " times the other"
            )
        return image, label


class Classes(NamedTuple):
    """The classes of a segmentation set: the place of a name is its id.

    Attributes:
        names: in order.
        colors: 0..255, one each.
        void: the label that is no class.
        colors_are_known: whether the data set says so; else they only serve to draw.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    void: int = 255
    colors_are_known: bool = True

    def palette(self) -> NDArray[np.uint8]:
        """Colour of every label: uint8 [256, 3]; void is VOC's cream, what is no class black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.colors)] = self.colors
        table[self.void] = (224, 224, 192)
        return table


class LoadedImages(NamedTuple):
    """What a reader found: usable pictures in order of their keys, and the others with reasons.

    Attributes:
        images: with labels of one kind.
        skipped: what was left out.
        classes: of a segmentation set, else None.
        note: how the split was chosen, where there is a choice to know of.
    """

    images: list[LabelledImage]
    skipped: list[Skipped]
    classes: Classes | None = None
    note: str = ""


def voc_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Colours of the first ``count`` labels as VOC's palette has them."""
    colors = []
    for label in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((label >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colors)


def read_classes(path: Path) -> Classes:
    """Read a ``classes.txt``: one class a line, in order, as NAME, ID NAME or ID NAME R G B.

    Raises:
        InputError: it cannot be read or is not UTF-8; ids that do not count up from 0, fewer than 2
            classes or more than 255, or colours of some of them only.
    """
    names: list[str] = []
    colors: list[tuple[int, int, int]] = []
    for number, line in read_list(path):
        words = line.split()
        if _NUMBER.fullmatch(words[0]) and len(words) > 1:
            if int(words[0]) != len(names):
                raise InputError(f"{shown(path)}, line {number}: ids must count up from 0")
            words = words[1:]
        rgb = words[-3:]
        if len(words) > 3 and all(_NUMBER.fullmatch(w) and int(w) < 256 for w in rgb):
            colors.append((int(rgb[0]), int(rgb[1]), int(rgb[2])))
            words = words[:-3]
        names.append(" ".join(words))
    if not 2 <= len(names) <= 255:
        raise InputError(f"{shown(path)} names {len(names)} classes; 2 to 255 can be told apart")
    if colors and len(colors) != len(names):
        raise InputError(
            f"{shown(path)} gives a colour to {len(colors)} of its {len(names)} classes"
        )
    known = bool(colors)
    return Classes(
        tuple(names),
        tuple(colors) if known else voc_colors(len(names)),
        colors_are_known=known,
    )


def classes_of(card: ImageCard, root: Path) -> Classes:
    """Read the classes of a data root: from its ``classes.txt``, else from the card.

    Raises:
        InputError: neither names any, or a broken ``classes.txt``.
    """
    if why_missing(root / "classes.txt") is None:
        return read_classes(root / "classes.txt")._replace(void=card.void)
    if not card.classes:
        raise InputError(f"no '{shown(root / 'classes.txt')}': it names the classes, one a line")
    return Classes(tuple(card.classes), voc_colors(len(card.classes)), card.void)


def write_classes(path: Path, classes: Classes) -> None:
    """Write a ``classes.txt``: id, name and label colour, one class a line."""
    each = enumerate(zip(classes.names, classes.colors, strict=True))
    lines = (f"{i} {name} {' '.join(map(str, color))}\n" for i, (name, color) in each)
    write_text(path, "".join(lines))
