"""What the writers of labelled pictures share. Each lies beside the reader of its layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.picture_files import write_jpeg
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.files import write_text


class PictureLayout(Protocol):
    """Where the files of a layout lie.

    Attributes:
        splits: which of train, val and test it has: the one to train on, and the held-out one.
        only: name of the kind of label that it has a place for; None: any.
    """

    @property
    def splits(self) -> tuple[str, str]: ...
    @property
    def only(self) -> str | None: ...

    def picture(self, root: Path, split: str, name: str) -> Path:
        """Place of a JPEG."""
        ...

    def label(self, root: Path, split: str, name: str, kind: Labels) -> Path:
        """Place of its label of a kind."""
        ...

    def finish(
        self, root: Path, names: Mapping[str, Sequence[str]], classes: Classes | None
    ) -> None:
        """Write the lists of a complete data set.

        Args:
            root: of the data set.
            names: split -> names of its pictures.
            classes: of the class ids, where there are any.
        """
        ...


def write_labelled(
    layout: PictureLayout,
    root: Path,
    split: str,
    name: str,
    picture: NDArray[np.uint8],
    labels: Sequence[tuple[Labels, NDArray[Any]]],
    classes: Classes | None,
) -> None:
    """Write a picture and its labels, each file in one step.

    Args:
        layout, root, split, name: where.
        picture: uint8 [H, W, 3].
        labels: kinds and values [C, H, W].
        classes: of the class ids, where there are any.
    """
    write_jpeg(layout.picture(root, split, name), picture)
    for kind, values in labels:
        kind.write(layout.label(root, split, name, kind), values, classes)


def is_labelled(
    layout: PictureLayout, root: Path, split: str, name: str, kinds: Sequence[Labels]
) -> bool:
    """Whether the labels of all these kinds are there; :func:`write_labelled` writes them last."""
    return all(layout.label(root, split, name, kind).is_file() for kind in kinds)


def write_list(path: Path, lines: Sequence[str]) -> None:
    """Write the lines of a list in one step."""
    write_text(path, "".join(f"{line}\n" for line in lines))
