"""Salient object detection."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.backbones.concepts.reader import TASK_CONCEPTS
from mmdiff_video.tasks.base import Constant, DenseLossConfig, Scores, Task, heat
from mmdiff_video.tasks.losses import binary_cross_entropy, soft_iou

_PRIOR_SIZE = 64


class Saliency(Task):
    """How salient every pixel is, 0 to 1.

    Args:
        loss: see :class:`DenseLossConfig`.
    """

    name: ClassVar[str] = "saliency"
    head: ClassVar[str] = "dpt"
    concepts: ClassVar[tuple[str, ...]] = TASK_CONCEPTS["saliency"]
    metrics: ClassVar[Mapping[str, bool]] = {"Sm": True, "maxF": True, "MAE": False}

    def __init__(self, loss: DenseLossConfig):
        self.weights = loss
        self.outputs = 1

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """See :class:`Task`."""
        logits = output[:, 0]
        return {
            "bce": self.weights.bce * binary_cross_entropy(logits, target, valid).mean(),
            "iou": self.weights.iou * soft_iou(logits, target, valid).mean(),
        }

    def decode(self, output: Tensor) -> Tensor:
        """See :class:`Task`: 0 to 1."""
        return output.select(-3, 0).float().sigmoid()

    def scores(self) -> Scores:
        """See :class:`Task`."""
        return _SaliencyScores()

    def constant(self) -> Constant:
        """See :class:`Task`: the mean mask."""
        return CentrePrior()

    def protocol(self) -> str:
        """See :class:`Task`."""
        return (
            "S-measure, largest F (beta^2 = 0.3) of the mean curve, and MAE by pysodmetrics: 8-bit"
            " predictions at the size of the mask, each stretched to the full range, mask > 128"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """See :class:`Task`: grey."""
        grey = (values.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        return np.repeat(grey[..., None], 3, -1)

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """See :class:`Task`: the absolute difference."""
        return heat((prediction - target).abs(), valid)

    def image(self, prediction: Tensor) -> Image.Image:
        """See :class:`Task`: an 8-bit grey PNG."""
        return Image.fromarray(_eight_bits(prediction))


class _SaliencyScores:
    def __init__(self) -> None:
        import py_sod_metrics as sod

        self._structure, self._error = sod.Smeasure(), sod.MAE()
        handler = sod.FmeasureHandler(with_dynamic=True, with_adaptive=False, beta=0.3)
        self._f = sod.FmeasureV2(metric_handlers={"fm": handler})

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        # masks of this task know every pixel
        found, truth = _eight_bits(prediction), _eight_bits(target)
        for metric in (self._structure, self._error, self._f):
            metric.step(pred=found, gt=truth)

    def compute(self) -> dict[str, float]:
        return {
            "Sm": float(self._structure.get_results()["sm"]),
            "maxF": float(self._f.get_results()["fm"]["dynamic"].max()),
            "MAE": float(self._error.get_results()["mae"]),
        }


class CentrePrior:
    """The mean mask in training, stretched to the picture."""

    label = "centre prior (mean mask)"

    def __init__(self) -> None:
        self._sum = torch.zeros(_PRIOR_SIZE, _PRIOR_SIZE)
        self._count = 0

    def add(self, target: Tensor, valid: Tensor) -> None:
        """See :class:`Constant`."""
        size = (_PRIOR_SIZE, _PRIOR_SIZE)
        self._sum += F.interpolate(target[None, None].float(), size, mode="area")[0, 0]
        self._count += 1

    def predict(self, height: int, width: int) -> Tensor:
        """See :class:`Constant`."""
        mean = (self._sum / max(self._count, 1))[None, None]
        return F.interpolate(mean, (height, width), mode="bilinear", align_corners=False)[0, 0]


def _eight_bits(values: Tensor) -> NDArray[np.uint8]:
    return (values.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
