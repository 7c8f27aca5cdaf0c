"""Metric depth: target and prediction are one channel of metres."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdiff_video.checks import check_fields
from mmdiff_video.datasets.picture_files import PictureError, read_label, write_label
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.labels import Decode, DrawnView, Labels, as_tensor
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside
from mmdiff_video.pictures import colorize_depth, depth_range, to_uint8
from mmdiff_video.tasks.base import (
    Constant,
    DataFacts,
    LossConfig,
    Scores,
    Task,
    heat,
    masked_mean,
)

_EIGEN_CROP = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows and columns of Eigen et al.'s crop of NYU, as shares of its 480 x 640 pixels."""

_DELTA = 1.25
"""Ratio of predicted and true depth, either way round, that delta1 counts as right."""

_LARGEST_LOG = 88.0
"""Of float32: exp(88) is 1.7e38."""

_MOST_MILLIMETRES = 65535
"""In 16 bits."""


class DepthLabels(Labels):
    """Metres along the optical axis: float32 [1, H, W], 0 where unknown.

    16-bit grey PNG; or metres, in a TIFF of floats or an array ``.npy`` [H, W].

    A crop that is enlarged shows its depth divided by the enlargement, as if the camera had come
    nearer (Eigen et al. 2014), so that the focal length stays that of the whole picture.
    """

    name: ClassVar[str] = "depth"
    folder: ClassVar[str] = "depth"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy")

    def decoder(self, card: ImageCard, classes: Classes | None) -> Decode:
        return functools.partial(read_depth, unit=card.depth_unit)

    def write(self, path: Path, values: NDArray[Any], classes: Classes | None) -> None:
        """Write float32 metres to a ``.npy``, or a 16-bit PNG in millimetres.

        Raises:
            InputError: a depth that 16 bits of millimetres cannot hold.
        """
        metres = np.where(np.isfinite(values[0]), values[0], 0).clip(0).astype(np.float32)
        if path.suffix == ".npy":
            with write_aside(path, flush=False) as aside:
                np.save(aside, metres)
            return
        if not _millimetres_hold(metres):
            known = metres[metres > 0]
            raise InputError(
                f"'{path}' would hold depths of {known.min():.2g} to {known.max():.4g} m, and 16"
                " bits of millimetres 0.001 to 65.5 m: give a name that ends in .npy"
            )
        write_label(path, _millimetres(metres).astype(np.uint16))

    def drawn(self, view: DrawnView) -> NDArray[Any]:
        return view.depth[None]

    def target(self, values: NDArray[Any], void: int) -> tuple[Tensor, Tensor]:
        target = as_tensor(values)
        valid = (target > 0) & target.isfinite()
        return torch.where(valid, target, 0), valid[0]

    def enlarged(self, target: Tensor, share: float) -> Tensor:
        return target * share

    def tally(self, classes: Classes | None) -> "_DepthTally":
        return _DepthTally()


def _millimetres(metres: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.floor(metres * np.float32(1000) + np.float32(0.5))


def _millimetres_hold(metres: NDArray[np.float32]) -> bool:
    """Whether 16 bits hold depths; what is known must not become 0, which says that it is not."""
    rounded = _millimetres(metres)
    return bool(rounded.max(initial=0) <= _MOST_MILLIMETRES and (rounded[metres > 0] > 0).all())


def read_depth(path: Path, unit: float) -> NDArray[np.float32]:
    """Read depth: float32 [1, H, W] in metres, 0 where there is none.

    Whole numbers count steps of the unit; floats are metres. What is not finite or below 0 is not
    known.

    Args:
        path: a grey picture of more than 8 bits, or an array [H, W].
        unit: metres of one step.

    Raises:
        PictureError: unreadable, or something else.
    """
    stored = read_label(path)
    values = stored.values
    if stored.picture is None:
        fits = values.ndim == 2 and values.dtype.kind in "iuf"
    else:
        fits = stored.is_grey and values.dtype.itemsize > 1
    if not fits:
        raise PictureError(
            f"{stored.name} is {stored.kind}: depth is a 16-bit grey PNG in steps of {unit:g} m, or"
            " floats in metres: a grey TIFF, or an array [H, W]"
        )
    with np.errstate(over="ignore"):
        metres = values.astype(np.float32)
    if values.dtype.kind != "f":
        metres *= np.float32(unit)
    return np.where(np.isfinite(metres) & (metres > 0), metres, 0).astype(np.float32)[None]


class _DepthTally:
    """Least depth, median of the medians of the pictures, and largest depth, in metres."""

    unit: ClassVar[str] = "m"

    def __init__(self) -> None:
        self.medians: list[float] = []
        self.lowest, self.highest = np.inf, 0.0

    def add(self, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        metres = values[0][known]
        if metres.size:
            self.medians.append(float(np.median(metres)))
            self.lowest = min(self.lowest, float(metres.min()))
            self.highest = max(self.highest, float(metres.max()))

    def values(self) -> dict[str, float]:
        if not self.medians:
            return {}
        middle = float(np.median(self.medians))
        return {"min": self.lowest, "median": middle, "max": self.highest}


@dataclass(frozen=True, kw_only=True)
class DepthLossConfig(LossConfig):
    """The loss of depth.

    Attributes:
        silog: weight of the scale-invariant logarithmic loss.
        variance_focus: its lambda (0.85 in BTS and AdaBins, 0.5 in Eigen et al.).
        gradient: weight of the slopes of the logarithmic error.
        gradient_scales: of the slopes; each half as fine as the one before.
    """

    terms: ClassVar[tuple[str, ...]] = ("silog", "gradient")

    silog: float = 1.0
    variance_focus: float = 0.85
    gradient: float = 0.5
    gradient_scales: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, "loss.", gradient_scales=1)
        if not 0 <= self.variance_focus <= 1:
            raise InputError(f"loss.variance_focus must be in [0, 1], not {self.variance_focus}")


class Depth(Task):
    """Metres along the optical axis for every pixel.

    The head gives the log of the depth relative to the geometric middle of the last decade, about a
    third of the largest depth.

    Args:
        min_depth, max_depth: metres; truth beyond is neither trained on nor scored, and predictions
            are clipped.
        eval_crop: ``eigen``: depth is scored inside Eigen's crop of NYU only; ``none``: everywhere.
        loss: weights of the loss.
    """

    name: ClassVar[str] = "depth"
    labels: ClassVar[Labels] = DepthLabels()
    losses: ClassVar[type[LossConfig]] = DepthLossConfig
    head: ClassVar[str] = "dpt"
    concepts: ClassVar[tuple[str, ...]] = ("depth", "surface", "object", "near", "far")
    file_format: ClassVar[str] = (
        "16-bit grey PNG in millimetres; float32 array (.npy) in metres where that cannot hold it"
    )
    metrics: ClassVar[Mapping[str, bool]] = {
        "AbsRel": False,
        "RMSE": False,
        "delta1": True,
        "delta2": True,
        "delta3": True,
    }

    def __init__(self, min_depth: float, max_depth: float, eval_crop: str, loss: DepthLossConfig):
        self.min_depth, self.max_depth, self.eval_crop = min_depth, max_depth, eval_crop
        self.weights = loss
        self.outputs = 1
        self._middle = math.log(max_depth) - 0.5 * math.log(10)

    @classmethod
    def build(cls, loss: DepthLossConfig, data: DataFacts) -> Self:
        if not data.min_depth < data.max_depth:
            card = data.card
            raise InputError(
                f"no depth lies between data.min_depth {data.min_depth:g} and data.max_depth"
                f" {data.max_depth:g}: set the first below the second (the card of '{card.name}'"
                f" has {card.min_depth:g} and {card.max_depth:g})"
            )
        return cls(data.min_depth, data.max_depth, data.eval_crop, loss)

    def in_range(self, target: Tensor, valid: Tensor) -> Tensor:
        """Where the truth is known and within the range; both arguments have one shape."""
        return valid & (target >= self.min_depth) & (target <= self.max_depth)

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        target = target[:, 0]
        valid = self.in_range(target, valid)
        error = output[:, 0] + self._middle - torch.where(valid, target, 1).log()
        weights = self.weights
        terms = {
            "silog": weights.silog * silog(error, valid, weights.variance_focus),
            "gradient": weights.gradient * gradient_matching(error, valid, weights.gradient_scales),
        }
        return {name: term.mean() for name, term in terms.items()}

    def decode(self, output: Tensor) -> Tensor:
        """Turn [..., 1, H, W] of the head into metres [..., 1, H, W], clipped to the range."""
        # bounded before exp: an infinity there would meet the clamp's slope of 0 on the way back
        depth = (output.float() + self._middle).clamp(max=_LARGEST_LOG).exp()
        return depth.clamp(self.min_depth, self.max_depth)

    def write(self, prediction: Tensor, path: Path) -> Path:
        """Write a 16-bit PNG in millimetres; where that cannot hold it, float32 metres (.npy)."""
        metres = prediction.float().cpu().numpy()
        if not _millimetres_hold(metres[0]):
            path = path.with_suffix(".npy")
        self.labels.write(path, metres, None)
        return path

    def scores(self) -> Scores:
        return _DepthScores(self)

    def constant(self) -> Constant:
        """Learn the median depth."""
        return MedianDepth(self)

    def protocol(self) -> str:
        crop = "Eigen's crop" if self.eval_crop == "eigen" else "the whole picture"
        return (
            f"AbsRel, RMSE (m) and delta < 1.25, 1.25^2, 1.25^3 per picture at its own size, then"
            f" the mean over pictures; truth from {self.min_depth:g} to {self.max_depth:g} m inside"
            f" {crop}; predictions clipped to that range, not aligned to the truth"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """Colour [1, H, W] by inverse depth: near is bright, unknown is black."""
        like = values if like is None else like
        near, far = depth_range(like, (like > 0).float())
        return to_uint8(colorize_depth(values[0].float(), (values[0] > 0).float(), near, far))

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """Show the relative error, yellow from 50 % on."""
        found, true = prediction[0], target[0]
        relative = (found - true).abs() / true.clamp_min(1e-3)
        return heat(relative / 0.5, self.in_range(true, valid))


def silog(log_error: Tensor, valid: Tensor, variance_focus: float) -> Tensor:
    """Scale-invariant logarithmic loss (Eigen et al. 2014, with the root of Lee et al. 2019): [B].

    Args:
        log_error: [B, H, W], log of predicted depth minus log of true depth.
        valid: [B, H, W], where the depth is known.
        variance_focus: lambda; 1 ignores the scale altogether, 0 is the root mean square.
    """
    mean = masked_mean(log_error, valid)
    square = masked_mean(log_error**2, valid)
    # the small number keeps the root's slope finite
    return (square - variance_focus * mean**2).clamp_min(0).add(1e-6).sqrt()


def gradient_matching(log_error: Tensor, valid: Tensor, scales: int) -> Tensor:
    """Slopes of the log error at several scales (Li and Snavely 2018): [B]. Sharpens edges.

    ``log_error`` and ``valid`` are [B, H, W].
    """
    total = log_error.new_zeros(len(log_error))
    used = 0
    for scale in range(scales):
        step = 2**scale
        if min(log_error.shape[1:]) < 2 * step:
            break
        used += 1
        error, known = log_error[:, ::step, ::step], valid[:, ::step, ::step]
        error = torch.where(known, error, 0)
        across = (error[:, :, 1:] - error[:, :, :-1]).abs()
        down = (error[:, 1:] - error[:, :-1]).abs()
        total = total + masked_mean(across, known[:, :, 1:] & known[:, :, :-1])
        total = total + masked_mean(down, known[:, 1:] & known[:, :-1])
    return total / max(used, 1)


class _DepthScores:
    def __init__(self, task: Depth):
        self.task = task
        self.rows: list[list[float]] = []

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        valid = self.task.in_range(target[0], valid)
        if self.task.eval_crop == "eigen":
            valid = valid & _inside_eigen_crop(*valid.shape)
        if not valid.any():
            return  # nothing to score here
        found, true = prediction[0][valid].double(), target[0][valid].double()
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
        known = target[0][self.task.in_range(target[0], valid)]
        self._seen.append(known[:: max(1, len(known) // 1000)])

    def predict(self, height: int, width: int) -> Tensor:
        seen = torch.cat(self._seen)
        middle = seen.median() if len(seen) else torch.tensor(self.task.max_depth)
        return middle.expand(1, height, width)


TASK = Depth
