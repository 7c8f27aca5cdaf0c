"""Metric depth."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.backbones.concepts.reader import TASK_CONCEPTS
from mmdiff_video.pictures import colorize_depth, depth_range, to_uint8
from mmdiff_video.tasks.base import Constant, DenseLossConfig, Scores, Task, heat
from mmdiff_video.tasks.losses import gradient_matching, silog

_EIGEN_CROP = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows and columns of Eigen et al.'s crop of NYU, as shares of its 480 x 640 pixels."""

_DELTA = 1.25


class Depth(Task):
    """Metres along the optical axis for every pixel.

    The head gives the log of the depth relative to the geometric middle of the last decade, about a
    third of the largest depth.

    Args:
        min_depth, max_depth: metres; truth beyond is neither trained on nor scored, and predictions
            are clipped.
        eval_crop: ``eigen`` or ``none``: where depth is scored.
        loss: see :class:`DenseLossConfig`.
    """

    name: ClassVar[str] = "depth"
    head: ClassVar[str] = "dpt"
    concepts: ClassVar[tuple[str, ...]] = TASK_CONCEPTS["depth"]
    metrics: ClassVar[Mapping[str, bool]] = {
        "AbsRel": False,
        "RMSE": False,
        "delta1": True,
        "delta2": True,
        "delta3": True,
    }

    def __init__(self, min_depth: float, max_depth: float, eval_crop: str, loss: DenseLossConfig):
        self.min_depth, self.max_depth, self.eval_crop = min_depth, max_depth, eval_crop
        self.weights = loss
        self.outputs = 1
        self._middle = math.log(max_depth) - 0.5 * math.log(10)

    def in_range(self, target: Tensor, valid: Tensor) -> Tensor:
        """Where the truth is known and within the range."""
        return valid & (target >= self.min_depth) & (target <= self.max_depth)

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """See :class:`Task`."""
        valid = self.in_range(target, valid)
        error = output[:, 0] + self._middle - torch.where(valid, target, 1).log()
        weights = self.weights
        terms = {
            "silog": weights.silog * silog(error, valid, weights.variance_focus),
            "gradient": weights.gradient * gradient_matching(error, valid, weights.gradient_scales),
        }
        return {name: term.mean() for name, term in terms.items()}

    def decode(self, output: Tensor) -> Tensor:
        """See :class:`Task`: metres."""
        depth = (output.select(-3, 0).float() + self._middle).exp()
        return depth.clamp(self.min_depth, self.max_depth)

    def scores(self) -> Scores:
        """See :class:`Task`."""
        return _DepthScores(self)

    def constant(self) -> Constant:
        """See :class:`Task`: the median depth."""
        return MedianDepth(self)

    def protocol(self) -> str:
        """See :class:`Task`."""
        crop = "Eigen's crop" if self.eval_crop == "eigen" else "the whole picture"
        return (
            f"AbsRel, RMSE (m) and delta < 1.25, 1.25^2, 1.25^3 per picture at its own size, then"
            f" the mean over pictures; truth from {self.min_depth:g} to {self.max_depth:g} m inside"
            f" {crop}; predictions clipped to that range, not aligned to the truth"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """See :class:`Task`: near is bright, unknown is black."""
        like = values if like is None else like
        near, far = depth_range(like, (like > 0).float())
        return to_uint8(colorize_depth(values.float(), (values > 0).float(), near, far))

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """See :class:`Task`: relative error, yellow from 50 % on."""
        valid = self.in_range(target, valid)
        return heat((prediction - target).abs() / target.clamp_min(1e-3) / 0.5, valid)

    def image(self, prediction: Tensor) -> Image.Image:
        """See :class:`Task`: a 16-bit PNG in millimetres."""
        millimetres = (prediction.cpu().numpy() * 1000).round().clip(0, 65535)
        return Image.fromarray(millimetres.astype(np.uint16))


class _DepthScores:
    def __init__(self, task: Depth):
        self.task = task
        self.rows: list[list[float]] = []

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        valid = self.task.in_range(target, valid)
        if self.task.eval_crop == "eigen":
            valid = valid & _inside_eigen_crop(*target.shape)
        if not valid.any():
            return  # nothing to score here
        found, true = prediction[valid].double(), target[valid].double()
        ratio = torch.maximum(found / true, true / found)
        deltas = (float((ratio < _DELTA**power).double().mean()) for power in (1, 2, 3))
        absrel, rmse = ((found - true).abs() / true).mean(), (found - true).square().mean().sqrt()
        self.rows.append([float(absrel), float(rmse), *deltas])

    def compute(self) -> dict[str, float]:
        if not self.rows:
            return dict.fromkeys(self.task.metrics, math.nan)
        means = np.mean(self.rows, 0).tolist()
        return dict(zip(self.task.metrics, means, strict=True)) | {
            "pictures": float(len(self.rows))
        }


def _inside_eigen_crop(height: int, width: int) -> Tensor:
    top, bottom, left, right = _EIGEN_CROP
    inside = torch.zeros(height, width, dtype=torch.bool)
    rows = slice(round(top * height), round(bottom * height))
    inside[rows, round(left * width) : round(right * width)] = True
    return inside


class MedianDepth:
    """The median depth in training (of up to a thousand pixels of each picture)."""

    label = "median depth"

    def __init__(self, task: Depth):
        self.task = task
        self._seen: list[Tensor] = []

    def add(self, target: Tensor, valid: Tensor) -> None:
        """See :class:`Constant`."""
        known = target[self.task.in_range(target, valid)]
        self._seen.append(known[:: max(1, len(known) // 1000)])

    def predict(self, height: int, width: int) -> Tensor:
        """See :class:`Constant`."""
        seen = torch.cat(self._seen)
        middle = seen.median() if len(seen) else torch.tensor(self.task.max_depth)
        return middle.expand(height, width)
