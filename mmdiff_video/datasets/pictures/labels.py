"""What pictures are labelled with: the part of a dense task that data sets need to know."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes

Decode = Callable[[Path], NDArray[Any]]
"""Turns a label file into values [C, H, W]; raises ``PictureError``. Survives pickling."""


class DrawnView(Protocol):
    """What a procedural world knows of a picture that it has drawn, H x W pixels.

    A task may make its labels of any of it (:meth:`Labels.drawn`).
    """

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The picture, [H, W, 3]."""
        ...

    @property
    def depth(self) -> NDArray[np.float32]:
        """Metres along the optical axis, [H, W]."""
        ...

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Class ids, [H, W]."""
        ...

    @property
    def saliency(self) -> NDArray[np.bool_]:
        """Where the salient thing is seen, [H, W]."""
        ...

    @property
    def normals(self) -> NDArray[np.float32]:
        """Surface normals in the camera's OpenCV axes, of unit length, [H, W, 3]."""
        ...


class Tally(Protocol):
    """What the labels of a data set hold, for ``data check``.

    Attributes:
        unit: of the values; empty: they are shares of the labelled pixels.
    """

    unit: ClassVar[str]

    def add(self, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        """Add a label: values [C, H, W], and where they are known, [H, W]."""
        ...

    def values(self) -> dict[str, float]:
        """Name -> figure over all labels; empty where nothing is known."""
        ...


class Labels(ABC):
    """One kind of label. Values are arrays [C, H, W]; see each kind for number format and units.

    Attributes:
        name: of the kind, as cards name it.
        folder: where the layout ``folders`` keeps its files.
        suffixes: of its files; the first is the one that is written.
        has_classes: whether values are ids of a data set's classes.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".png",)
    has_classes: ClassVar[bool] = False

    @abstractmethod
    def decoder(self, card: ImageCard, classes: Classes | None) -> Decode:
        """Make what reads the files of a data set; ``classes``: its own, where the kind has any."""

    @abstractmethod
    def write(self, path: Path, values: NDArray[Any], classes: Classes | None) -> None:
        """Write values [C, H, W] to a file, which :meth:`decoder` reads, in one step."""

    @abstractmethod
    def drawn(self, view: DrawnView) -> NDArray[Any]:
        """Label of a view of a procedural world: values [C, H, W]."""

    @abstractmethod
    def target(self, values: NDArray[Any], void: int) -> tuple[Tensor, Tensor]:
        """Make values [C, H, W] a target of training and the mask, bool [H, W], where it is known.

        Args:
            values: as decoded.
            void: the class id that is no class.
        """

    @abstractmethod
    def tally(self, classes: Classes | None) -> Tally:
        """Start counting what the labels of a data set hold."""

    def mirrored(self, target: Tensor) -> Tensor:
        """Change a target [C, H, W] as a picture is whose left and right change places."""
        return target.flip(-1)

    def enlarged(self, target: Tensor, share: float) -> Tensor:
        """Change the values of a target [C, H, W] as enlarging a crop does.

        Args:
            target: of the crop, at the size that it is enlarged to.
            share: sides of the crop as a share of those of the largest one, in (0, 1].
        """
        return target


def as_tensor(values: NDArray[Any]) -> Tensor:
    """Share an array's memory, or copy it where torch cannot."""
    return torch.from_numpy(np.ascontiguousarray(values))
