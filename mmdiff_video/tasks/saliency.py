"""Salient object detection: target and prediction are one channel from 0 to 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.datasets.picture_files import PictureError, read_label, write_label
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.labels import Decode, DrawnView, Labels, as_tensor
from mmdiff_video.tasks.base import (
    Constant,
    DataFacts,
    LossConfig,
    Scores,
    Task,
    heat,
    masked_mean,
)

_MIDDLE = 128
"""Of the values 0 to 255: what is above is salient."""

_TINT = 24
"""Channels of a grey pixel that lie further apart make it a coloured one; JPEG needs a little."""

_PRIOR_SIZE = 64
"""Side in pixels at which masks are averaged, whatever their own size."""


class MaskLabels(Labels):
    """Masks: float32 [1, H, W], 0 or 1, known everywhere; PNG of black and white."""

    name: ClassVar[str] = "saliency"
    folder: ClassVar[str] = "masks"

    def decoder(self, card: ImageCard, classes: Classes | None) -> Decode:
        return read_mask

    def write(self, path: Path, values: NDArray[Any], classes: Classes | None) -> None:
        """Write values from 0 to 1 as an 8-bit grey PNG."""
        write_label(path, _eight_bits(values[0]))

    def drawn(self, view: DrawnView) -> NDArray[Any]:
        return view.saliency[None].astype(np.float32)

    def target(self, values: NDArray[Any], void: int) -> tuple[Tensor, Tensor]:
        target = as_tensor(values)
        return target, torch.ones_like(target[0], dtype=torch.bool)

    def tally(self, classes: Classes | None) -> "_MaskTally":
        return _MaskTally()


def read_mask(path: Path) -> NDArray[np.float32]:
    """Read a saliency mask: float32 [1, H, W], 1 where it is bright, else 0.

    The shape may be painted in black and white, of any number of bits and by a palette, or be that
    of the pixels that are not transparent.

    Raises:
        PictureError: unreadable, in colours, or of no shape or two.
    """
    stored = read_label(path)
    colors = stored.colors()
    if colors.ndim == 3 and colors.shape[2] == 4:
        mask = _cut_out(stored.name, colors[..., :3], colors[..., 3])
    else:
        mask = _painted(stored.name, colors)
    return mask.astype(np.float32)[None]


def _painted(name: str, colors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    if not _is_grey(colors):
        raise PictureError(f"{name} is in colours: a mask is black, and white where it is salient")
    brightest = int(colors.max())
    if 0 < brightest <= _MIDDLE:
        raise PictureError(f"the largest value of {name} is {brightest}: a mask holds 0 and 255")
    return _is_bright(colors)


def _cut_out(name: str, colors: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Take the shape of what is not transparent, unless black and white show another one."""
    opaque = alpha > _MIDDLE
    if (alpha == alpha[0, 0]).all():
        if not opaque.any():
            raise PictureError(f"{name} is wholly transparent: a mask is black and white")
        return _painted(name, colors)
    bright = _is_bright(colors)
    if bright.any() and _is_grey(colors) and (opaque & ~bright).any():
        raise PictureError(
            f"{name} shows one shape in black and white and another by its transparency: keep the"
            " one that is salient"
        )
    return opaque


def _is_grey(colors: NDArray[np.uint8]) -> bool:
    return colors.ndim == 2 or bool((np.ptp(colors, axis=-1) <= _TINT).all())


def _is_bright(colors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (colors if colors.ndim == 2 else colors[..., 0]) > _MIDDLE


class _MaskTally:
    """Share of the pixels that is salient."""

    unit: ClassVar[str] = ""

    def __init__(self) -> None:
        self.salient = self.known = 0

    def add(self, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        self.known += int(known.sum())
        self.salient += int((values[0] == 1).sum())

    def values(self) -> dict[str, float]:
        return {"salient": self.salient / self.known} if self.known else {}


@dataclass(frozen=True, kw_only=True)
class SaliencyLossConfig(LossConfig):
    """The loss of saliency.

    Attributes:
        bce: weight of the binary cross-entropy.
        iou: weight of one minus the soft intersection over union.
    """

    terms: ClassVar[tuple[str, ...]] = ("bce", "iou")

    bce: float = 1.0
    iou: float = 1.0


class Saliency(Task):
    """How salient every pixel is, 0 to 1.

    Args:
        loss: weights of the loss.
    """

    name: ClassVar[str] = "saliency"
    labels: ClassVar[Labels] = MaskLabels()
    losses: ClassVar[type[LossConfig]] = SaliencyLossConfig
    head: ClassVar[str] = "dpt"
    concepts: ClassVar[tuple[str, ...]] = ("background", "object", "edges", "salient", "contour")
    metrics: ClassVar[Mapping[str, bool]] = {"Sm": True, "maxF": True, "MAE": False}
    file_format: ClassVar[str] = "8-bit grey PNG, 0 to 255"

    def __init__(self, loss: SaliencyLossConfig):
        self.weights = loss
        self.outputs = 1

    @classmethod
    def build(cls, loss: SaliencyLossConfig, data: DataFacts) -> Self:
        return cls(loss)

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        logits, mask = output[:, 0], target[:, 0]
        return {
            "bce": self.weights.bce * binary_cross_entropy(logits, mask, valid).mean(),
            "iou": self.weights.iou * soft_iou(logits, mask, valid).mean(),
        }

    def decode(self, output: Tensor) -> Tensor:
        """Turn logits [..., 1, H, W] into 0 to 1, [..., 1, H, W]."""
        return output.float().sigmoid()

    def scores(self) -> Scores:
        return _SaliencyScores()

    def constant(self) -> Constant:
        """Learn the mean mask; it is brightest in the middle, where salient things mostly are."""
        return CentrePrior()

    def protocol(self) -> str:
        return (
            "S-measure, largest F (beta^2 = 0.3) of the mean curve, and MAE by pysodmetrics: 8-bit"
            " predictions at the size of the mask, each stretched to the full range, mask > 128"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """Colour [1, H, W] grey."""
        return np.repeat(_eight_bits(values[0].cpu().numpy())[..., None], 3, -1)

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """Show the absolute difference."""
        return heat((prediction - target)[0].abs(), valid)


def binary_cross_entropy(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of [B, H, W], for each picture: [B]."""
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return masked_mean(loss, valid)


def soft_iou(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """One minus the soft intersection over union of [B, H, W], for each picture: [B].

    0 for an empty mask left empty.
    """
    found, known = logits.sigmoid(), valid.to(logits.dtype)
    both = (found * mask * known).sum((1, 2))
    either = ((found + mask - found * mask) * known).sum((1, 2))
    return 1 - (both + 1) / (either + 1)


class _SaliencyScores:
    def __init__(self) -> None:
        import py_sod_metrics as sod

        self._structure, self._error = sod.Smeasure(), sod.MAE()
        handler = sod.FmeasureHandler(with_dynamic=True, with_adaptive=False, beta=0.3)
        self._f = sod.FmeasureV2(metric_handlers={"fm": handler})

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        # masks of this task know every pixel
        found, truth = (_eight_bits(values[0].numpy()) for values in (prediction, target))
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
        size = (_PRIOR_SIZE, _PRIOR_SIZE)
        self._sum += F.interpolate(target[None].float(), size, mode="area")[0, 0]
        self._count += 1

    def predict(self, height: int, width: int) -> Tensor:
        mean = (self._sum / max(self._count, 1))[None, None]
        return F.interpolate(mean, (height, width), mode="bilinear", align_corners=False)[0]


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    return (values.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)


TASK = Saliency
