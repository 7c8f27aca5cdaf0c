"""Semantic segmentation."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.backbones.concepts.reader import TASK_CONCEPTS
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.tasks.base import UNKNOWN, Constant, DenseLossConfig, Scores, Task
from mmdiff_video.tasks.losses import cross_entropy


class Segmentation(Task):
    """One of K classes for every pixel; void pixels count nowhere.

    Args:
        classes: of the data set.
        loss: see :class:`DenseLossConfig`.
    """

    name: ClassVar[str] = "seg"
    head: ClassVar[str] = "deeplab"
    concepts: ClassVar[tuple[str, ...]] = TASK_CONCEPTS["seg"]
    metrics: ClassVar[Mapping[str, bool]] = {"mIoU": True, "accuracy": True}

    def __init__(self, classes: Classes, loss: DenseLossConfig):
        self.classes = classes
        self.weights = loss
        self.outputs = len(classes.names)
        self._palette = classes.palette()

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """See :class:`Task`."""
        terms = cross_entropy(output, target.long(), valid)
        return {"cross_entropy": self.weights.cross_entropy * terms.mean()}

    def decode(self, output: Tensor) -> Tensor:
        """See :class:`Task`: class ids."""
        return output.argmax(-3)

    def scores(self) -> Scores:
        """See :class:`Task`: mIoU and pixel accuracy in percent, and the IoU of each class."""
        return _SegScores(self.classes)

    def constant(self) -> Constant:
        """See :class:`Task`: the most frequent class."""
        return MajorityClass(self.classes)

    def protocol(self) -> str:
        """See :class:`Task`."""
        return (
            f"mIoU and pixel accuracy in percent, from one confusion over all pictures at their own"
            f" size, {len(self.classes.names)} classes, label {self.classes.void} left out;"
            " a class that neither truth nor prediction has is left out of the mean (torchmetrics)"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """See :class:`Task`: the data set's palette."""
        return self._palette[values.cpu().numpy().astype(np.uint8)]

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """See :class:`Task`: the predicted class where it is wrong, black where right."""
        picture = self.color(prediction)
        picture[(prediction == target).cpu().numpy()] = 0
        picture[~valid.cpu().numpy()] = UNKNOWN
        return picture

    def image(self, prediction: Tensor) -> Image.Image:
        """See :class:`Task`: a palette PNG of class ids."""
        picture = Image.fromarray(prediction.cpu().numpy().astype(np.uint8), mode="P")
        picture.putpalette(self._palette.reshape(-1).tolist())
        return picture


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
            metric.update(prediction[None], target[None])

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
    """The class with most pixels in training."""

    label = "majority class"

    def __init__(self, classes: Classes):
        self._counts = torch.zeros(len(classes.names), dtype=torch.long)

    def add(self, target: Tensor, valid: Tensor) -> None:
        """See :class:`Constant`."""
        self._counts += target[valid].long().bincount(minlength=len(self._counts))

    def predict(self, height: int, width: int) -> Tensor:
        """See :class:`Constant`."""
        return self._counts.argmax().expand(height, width)
