"""Pictures of dense predictions."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmdiff_video.datasets.pictures.views import DenseSample
from mmdiff_video.pictures import to_uint8
from mmdiff_video.tasks import Task

_OVERLAY = 0.55
"""Weight of the colours that are laid over a picture."""

PictureRow = list[NDArray[np.uint8]]
"""Pictures [H, W, 3] of one size that stand beside each other."""


def picture_row(task: Task, sample: DenseSample, image: Tensor, prediction: Tensor) -> PictureRow:
    """Input, truth, prediction and error, each uint8 [H, W, 3]; ``image`` is [3, H, W]."""
    return [
        to_uint8(image.movedim(0, -1)),
        task.color(sample.target),
        task.color(prediction, sample.target),
        task.error(prediction, sample.target, sample.valid),
    ]


def overlay(image: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay colours over a picture, both uint8 [H, W, 3]."""
    return (image * (1 - _OVERLAY) + colors * _OVERLAY).round().astype(np.uint8)
