"""Semantic segmentation: target and prediction are one channel of class ids."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.datasets.picture_files import (
    PictureError,
    StoredLabel,
    read_label,
    write_label,
)
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.labels import Decode, DrawnView, Labels, as_tensor
from mmdiff_video.errors import InputError
from mmdiff_video.tasks.base import (
    UNKNOWN,
    Constant,
    DataFacts,
    LossConfig,
    Scores,
    Task,
    masked_mean,
)


class ClassLabels(Labels):
    """Class ids: uint8 [1, H, W], void where unknown.

    Palette or grey PNG; or the colours of the classes, where a data set says which they are.
    """

    name: ClassVar[str] = "seg"
    folder: ClassVar[str] = "labels"
    has_classes: ClassVar[bool] = True

    def decoder(self, card: ImageCard, classes: Classes | None) -> Decode:
        assert classes is not None, "a reader of class ids gives their classes"
        return functools.partial(read_classes, classes=classes)

    def write(self, path: Path, values: NDArray[Any], classes: Classes | None) -> None:
        """Write an 8-bit palette PNG.

        Raises:
            InputError: an id beyond 255.
        """
        assert classes is not None
        if values.size and not 0 <= values.min() <= values.max() <= 255:
            raise InputError(
                f"'{path}' would hold class ids from {values.min()} to {values.max()}: an 8-bit PNG"
                " holds 0 to 255"
            )
        write_label(path, values[0].astype(np.uint8), classes.palette())

    def drawn(self, view: DrawnView) -> NDArray[Any]:
        return view.labels[None]

    def target(self, values: NDArray[Any], void: int) -> tuple[Tensor, Tensor]:
        target = as_tensor(values).long()
        return target, target[0] != void

    def tally(self, classes: Classes | None) -> "_ClassTally":
        assert classes is not None
        return _ClassTally(classes)


def read_classes(path: Path, classes: Classes) -> NDArray[np.uint8]:
    """Read class ids: uint8 [1, H, W], below the number of the classes, or their void.

    The values of a palette or grey picture are ids, of any number of bits. The pixels of an RGB
    picture have the colours of classes; black, if no class has it, is void, as is VOC's cream.

    Raises:
        PictureError: unreadable, no such picture, lossy, a label beyond the classes, or a palette
            that paints other classes than its values name.
    """
    stored = read_label(path)
    if stored.is_lossy:
        raise PictureError(f"{stored.name} is {stored.kind}, which changes class ids: save a PNG")
    if stored.mode == "RGB" and classes.colors_are_known:
        return _ids_of_colors(stored, classes)[None]
    if stored.mode == "P":
        _check_palette(stored, classes)
    elif not stored.is_grey or stored.mode == "F":
        raise PictureError(
            f"{stored.name} is {stored.kind}: labels are palette or grey pictures whose values are"
            " class ids, or RGB pictures in the colours that classes.txt gives to the classes"
        )
    labels, count, void = stored.values.astype(np.int64), len(classes.names), classes.void
    wrong = (labels != void) & ((labels >= count) | (labels < 0))
    if wrong.any():
        raise PictureError(
            f"{stored.name} holds label {labels[wrong].max()}, but there are {count} classes"
            f" (0 to {count - 1}, and {void} for void)"
        )
    return labels.astype(np.uint8)[None]


def _ids_of_colors(stored: StoredLabel, classes: Classes) -> NDArray[np.uint8]:
    table = _ids_by_color(classes)
    if len(table) < len(classes.names):
        raise PictureError(f"{stored.name} is in colours, and two classes have the same one")
    for color in ((0, 0, 0), tuple(classes.palette()[classes.void].tolist())):
        table.setdefault(color, classes.void)
    colors = sorted(table)
    codes = _codes(np.array(colors, np.uint8))
    ids = np.array([table[color] for color in colors], np.uint8)
    pixels = _codes(stored.values)
    place = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    unknown = codes[place] != pixels
    labels = ids[place]
    if unknown.any() or (labels == classes.void).all():
        wrong = stored.values[unknown]
        found = f"colour {wrong[0].tolist()} at {len(wrong)} pixels" if len(wrong) else "only void"
        raise PictureError(
            f"{stored.name} is {stored.kind} with {found}: each pixel of an RGB label has the"
            " colour of a class, or is black for void"
        )
    return labels


def _check_palette(stored: StoredLabel, classes: Classes) -> None:
    """Refuse a palette that has the colours of classes, each once, but at other places."""
    table = _ids_by_color(classes)
    if not classes.colors_are_known or len(table) < len(classes.names):
        return
    used = np.flatnonzero(np.bincount(stored.values.reshape(-1), minlength=256)).tolist()
    palette = stored.palette().tolist()
    painted = {value: table.get(tuple(palette[value])) for value in used if value != classes.void}
    others = [(value, other) for value, other in painted.items() if value != other]
    each_once = None not in painted.values() and len(set(painted.values())) == len(painted)
    if others and each_once:
        raise PictureError(
            f"{stored.name} paints label {others[0][0]} in the colour of class {others[0][1]}: it"
            " is not known which is meant; save class ids as a grey PNG, or the colours as RGB"
        )


def _ids_by_color(classes: Classes) -> dict[tuple[int, ...], int]:
    return {color: number for number, color in enumerate(classes.colors)}


def _codes(colors: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Make one number of each colour [..., 3], in the order of the tuples."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


class _ClassTally:
    """Share of the labelled pixels that each class has."""

    unit: ClassVar[str] = ""

    def __init__(self, classes: Classes):
        self.classes = classes
        self.counts = np.zeros(256, np.int64)

    def add(self, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        self.counts += np.bincount(values[0][known], minlength=256)

    def values(self) -> dict[str, float]:
        total = int(self.counts.sum())
        if not total:
            return {}
        return {name: float(self.counts[i] / total) for i, name in enumerate(self.classes.names)}


@dataclass(frozen=True, kw_only=True)
class SegLossConfig(LossConfig):
    """The loss of segmentation.

    Attributes:
        cross_entropy: weight of the mean cross-entropy.
    """

    terms: ClassVar[tuple[str, ...]] = ("cross_entropy",)

    cross_entropy: float = 1.0


class Segmentation(Task):
    """One of K classes for every pixel; void pixels count nowhere.

    Args:
        classes: of the data set.
        loss: weights of the loss.
    """

    name: ClassVar[str] = "seg"
    labels: ClassVar[Labels] = ClassLabels()
    losses: ClassVar[type[LossConfig]] = SegLossConfig
    head: ClassVar[str] = "deeplab"
    concepts: ClassVar[tuple[str, ...]] = ("object", "background", "detail", "edges")
    metrics: ClassVar[Mapping[str, bool]] = {"mIoU": True, "accuracy": True}
    decimals: ClassVar[int] = 2
    file_format: ClassVar[str] = "8-bit palette PNG of class ids"

    def __init__(self, classes: Classes, loss: SegLossConfig):
        self.classes = classes
        self.weights = loss
        self.outputs = len(classes.names)
        self._palette = classes.palette()

    @classmethod
    def build(cls, loss: SegLossConfig, data: DataFacts) -> Self:
        assert data.classes is not None, "a reader of class ids gives their classes"
        return cls(data.classes, loss)

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        terms = cross_entropy(output, target[:, 0].long(), valid)
        return {"cross_entropy": self.weights.cross_entropy * terms.mean()}

    def decode(self, output: Tensor) -> Tensor:
        """Turn class scores [..., K, H, W] into class ids [..., 1, H, W]."""
        return output.argmax(-3, keepdim=True)

    def scores(self) -> Scores:
        """Gather mIoU and pixel accuracy in percent, and the IoU of each class."""
        return _SegScores(self.classes)

    def constant(self) -> Constant:
        """Learn the most frequent class."""
        return MajorityClass(self.classes)

    def protocol(self) -> str:
        return (
            f"mIoU and pixel accuracy in percent, from one confusion over all pictures at their own"
            f" size, {len(self.classes.names)} classes, label {self.classes.void} left out;"
            " a class that neither truth nor prediction has is left out of the mean (torchmetrics)"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """Colour ids [1, H, W] by the data set's palette."""
        return self._palette[values[0].cpu().numpy().astype(np.uint8)]

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """Show the predicted class where it is wrong, black where it is right."""
        picture = self.color(prediction)
        picture[(prediction == target)[0].cpu().numpy()] = 0
        picture[~valid.cpu().numpy()] = UNKNOWN
        return picture

    def write(self, prediction: Tensor, path: Path) -> Path:
        """Write a palette PNG of class ids."""
        self.labels.write(path, prediction.cpu().numpy(), self.classes)
        return path


def cross_entropy(scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of class scores [B, K, H, W] with ids [B, H, W], for each picture: [B]."""
    return masked_mean(F.cross_entropy(scores, labels * valid, reduction="none"), valid)


class _SegScores:
    def __init__(self, classes: Classes):
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

        count, void = len(classes.names), classes.void
        self.classes = classes
        self._mean = MulticlassJaccardIndex(count, average="macro", ignore_index=void)
        self._each = MulticlassJaccardIndex(count, average="none", ignore_index=void)
        self._accuracy = MulticlassAccuracy(count, average="micro", ignore_index=void)

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        target = torch.where(valid, target.long(), self.classes.void)
        for metric in (self._mean, self._each, self._accuracy):
            metric.update(prediction, target)

    def compute(self) -> dict[str, float]:
        figures = {
            "mIoU": 100 * float(self._mean.compute()),
            "accuracy": 100 * float(self._accuracy.compute()),
        }
        # one that neither occurs nor is predicted has no IoU, and no part in the mean
        found = self._each.confmat.sum(0) + self._each.confmat.sum(1) > 0
        each = torch.where(found, self._each.compute(), torch.nan).tolist()
        names = zip(self.classes.names, each, strict=True)
        return figures | {f"IoU {name}": 100 * value for name, value in names}


class MajorityClass:
    """The class of the most pixels in training."""

    label = "majority class"

    def __init__(self, classes: Classes):
        self._counts = torch.zeros(len(classes.names), dtype=torch.long)

    def add(self, target: Tensor, valid: Tensor) -> None:
        self._counts += target[0][valid].long().bincount(minlength=len(self._counts))

    def predict(self, height: int, width: int) -> Tensor:
        return self._counts.argmax().expand(1, height, width)


TASK = Segmentation
