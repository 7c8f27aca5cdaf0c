"""Surface normals: target and prediction are three channels, a unit vector in camera axes.

The axes are OpenCV's: x to the right, y down, z forward. A surface that faces the camera has a
negative z.
"""

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

_LENGTH_TOLERANCE = 0.5
"""Vectors whose length is further from 1 are no normals; rounding to 8 bits costs 1 % at most."""

_FULL_ERROR = 60.0
"""Degrees from which on pictures of errors are at their brightest."""

_SHARES = (11.25, 22.5, 30.0)
"""Degrees below which angles count as good (Fouhey et al. 2013)."""

_BINS = 180_000
"""Bins of the histogram of angles that gives the median: a thousandth of a degree each."""


class NormalLabels(Labels):
    """Unit vectors: float32 [3, H, W], 0 where unknown.

    RGB PNG of 3 times 8 or 16 bits whose values are ``(n + 1) / 2``, black where unknown; or a
    float array ``.npy`` [H, W, 3], 0 or NaN where unknown.
    """

    name: ClassVar[str] = "normals"
    folder: ClassVar[str] = "normals"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy")

    def decoder(self, card: ImageCard, classes: Classes | None) -> Decode:
        return read_normals

    def write(self, path: Path, values: NDArray[Any], classes: Classes | None) -> None:
        """Write an RGB PNG of 3 times 16 bits."""
        vectors = np.moveaxis(values, 0, -1)
        known = (vectors != 0).any(-1, keepdims=True)
        stored = ((vectors.clip(-1, 1) + 1) / 2 * 65535).round().astype(np.uint16)
        write_label(path, np.where(known, stored, 0).astype(np.uint16))

    def drawn(self, view: DrawnView) -> NDArray[Any]:
        return np.moveaxis(view.normals, -1, 0)

    def target(self, values: NDArray[Any], void: int) -> tuple[Tensor, Tensor]:
        target = as_tensor(values)
        return target, (target != 0).any(0)

    def mirrored(self, target: Tensor) -> Tensor:
        """Flip the picture, and the sign of x: what looked to the right looks to the left."""
        return target.flip(-1) * target.new_tensor([-1, 1, 1])[:, None, None]

    def tally(self, classes: Classes | None) -> "_NormalTally":
        return _NormalTally()


def read_normals(path: Path) -> NDArray[np.float32]:
    """Read normals: float32 [3, H, W], of unit length, 0 where unknown.

    Raises:
        PictureError: unreadable, neither an RGB picture nor an array [H, W, 3], lossy, or vectors
            that are far from unit length.
    """
    stored = read_label(path)
    values = stored.values
    if stored.picture is None:
        if values.ndim != 3 or values.shape[2] != 3 or values.dtype.kind != "f":
            raise PictureError(
                f"{stored.name} is {stored.kind}: normals are a float array [H, W, 3]"
            )
        with np.errstate(over="ignore"):
            vectors = values.astype(np.float32)
        finite = np.isfinite(vectors).all(-1, keepdims=True)
        vectors = np.where(finite, vectors, 0)
        known = (vectors != 0).any(-1)
    elif stored.mode in ("RGB", "RGB;16") and not stored.is_lossy:
        most = np.iinfo(values.dtype).max
        vectors = values.astype(np.float32) / most * 2 - 1
        known = (values != 0).any(-1)
    else:
        raise PictureError(
            f"{stored.name} is {stored.kind}: normals are an RGB PNG of 8 or 16 bits whose values"
            " are (n + 1) / 2, or a float array"
        )
    length = np.linalg.norm(vectors, axis=-1)
    if (known & (np.abs(length - 1) > _LENGTH_TOLERANCE)).any():
        off = float(length[known][np.abs(length[known] - 1).argmax()])
        raise PictureError(
            f"{stored.name} holds a vector of length {off:.2f}: normals have length 1, and are"
            " black (or 0) where they are unknown"
        )
    vectors = vectors / np.where(known, length, 1)[..., None]
    return np.ascontiguousarray(np.moveaxis(np.where(known[..., None], vectors, 0), -1, 0))


class _NormalTally:
    """Shares of the known normals that mostly look to a side, and that look away from the camera.

    Away means a positive z. Few pixels of a wide view may have one; most of them, and the axes are
    others than OpenCV's.
    """

    unit: ClassVar[str] = ""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
        vectors = values[:, known]
        axis = np.abs(vectors).argmax(0)
        positive = np.take_along_axis(vectors, axis[None], 0)[0] > 0
        sides = (("left", "right"), ("up", "down"), ("camera", "away"))
        for number, (negative, other) in enumerate(sides):
            for name, there in ((negative, ~positive), (other, positive)):
                count = int(((axis == number) & there).sum())
                self.counts[name] = self.counts.get(name, 0) + count

    def values(self) -> dict[str, float]:
        total = sum(self.counts.values())
        return {name: count / total for name, count in self.counts.items()} if total else {}


@dataclass(frozen=True, kw_only=True)
class NormalLossConfig(LossConfig):
    """The loss of normals.

    Attributes:
        cosine: weight of one minus the cosine of the angle, which is smooth at 0.
        angle: weight of the angle in radians, whose slope stays the same for small errors (Do et
            al. 2020; Bae et al. 2021 learn the angle, with its uncertainty).
    """

    terms: ClassVar[tuple[str, ...]] = ("cosine", "angle")

    cosine: float = 1.0
    angle: float = 1.0


class Normals(Task):
    """A unit vector for every pixel.

    The head gives a vector of any length, which is brought to length 1.

    Args:
        loss: weights of the loss.
    """

    name: ClassVar[str] = "normals"
    labels: ClassVar[Labels] = NormalLabels()
    losses: ClassVar[type[LossConfig]] = NormalLossConfig
    head: ClassVar[str] = "dpt"
    concepts: ClassVar[tuple[str, ...]] = ("surface", "floor", "wall", "ceiling", "object")
    metrics: ClassVar[Mapping[str, bool]] = {
        "mean": False,
        "median": False,
        **{f"<{share:g}": True for share in _SHARES},
    }
    decimals: ClassVar[int] = 2
    file_format: ClassVar[str] = "RGB PNG of 3 times 16 bits, value = (n + 1) / 2"

    def __init__(self, loss: NormalLossConfig):
        self.weights = loss
        self.outputs = 3

    @classmethod
    def build(cls, loss: NormalLossConfig, data: DataFacts) -> Self:
        return cls(loss)

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        found = self.decode(output)
        cosine = 1 - (found * target).sum(1)
        terms = {
            "cosine": self.weights.cosine * masked_mean(cosine, valid),
            "angle": self.weights.angle * masked_mean(angle_between(found, target), valid),
        }
        return {name: term.mean() for name, term in terms.items()}

    def decode(self, output: Tensor) -> Tensor:
        """Bring vectors [..., 3, H, W] to length 1."""
        return F.normalize(output.float(), dim=-3, eps=1e-6)

    def scores(self) -> Scores:
        """Gather mean and median angle in degrees, and shares in percent."""
        return _NormalScores()

    def constant(self) -> Constant:
        """Learn the mean direction."""
        return MeanNormal()

    def protocol(self) -> str:
        return (
            "angle between predicted and true normal: mean and median in degrees, and the share in"
            " percent below 11.25, 22.5 and 30 degrees, over all pixels of all pictures whose"
            " normal is known, each picture at its own size"
        )

    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """Colour x, y, z from -1 to 1 as red, green, blue; unknown is black."""
        known = (values != 0).any(0)
        colors = ((values.float() + 1) / 2 * known).clamp(0, 1).movedim(0, -1)
        return (colors * 255).round().byte().cpu().numpy()

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """Show the angle, yellow from 60 degrees on."""
        degrees = torch.rad2deg(angle_between(prediction[None], target[None])[0])
        return heat(degrees / _FULL_ERROR, valid)


def angle_between(found: Tensor, target: Tensor) -> Tensor:
    """Angle of unit vectors [B, 3, H, W] in radians, [B, H, W].

    By the lengths of their difference and sum, which is exact where the cosine is not: near 0 and
    180 degrees. Its slope is finite everywhere.
    """
    apart = (found - target).square().sum(1).add(1e-12).sqrt()
    together = (found + target).square().sum(1).add(1e-12).sqrt()
    return 2 * torch.atan2(apart, together)


class _NormalScores:
    """Counts every pixel; the median comes from a histogram, which any number of pixels fits."""

    def __init__(self) -> None:
        self.histogram = torch.zeros(_BINS, dtype=torch.int64)
        self.total = 0.0
        self.good = torch.zeros(len(_SHARES), dtype=torch.int64)

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        angles = angle_between(prediction[None].double(), target[None].double())[0][valid]
        degrees = torch.rad2deg(angles)
        self.total += float(degrees.sum())
        bins = (degrees / 180 * _BINS).long().clamp_max(_BINS - 1)
        self.histogram += bins.bincount(minlength=_BINS)
        self.good += torch.stack([(degrees < share).sum() for share in _SHARES])

    def compute(self) -> dict[str, float]:
        count = int(self.histogram.sum())
        if not count:
            return dict.fromkeys(Normals.metrics, float("nan"))
        middle = int((self.histogram.cumsum(0) < (count + 1) // 2).sum())
        median = (middle + 0.5) * 180 / _BINS
        shares = (100 * self.good.double() / count).tolist()
        return dict(zip(Normals.metrics, [self.total / count, median, *shares], strict=True))


class MeanNormal:
    """The mean direction in training, which has the least mean of one minus the cosine."""

    label = "mean normal"

    def __init__(self) -> None:
        self._sum = torch.zeros(3, dtype=torch.float64)

    def add(self, target: Tensor, valid: Tensor) -> None:
        self._sum += target[:, valid].double().sum(1)

    def predict(self, height: int, width: int) -> Tensor:
        towards_camera = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        mean = self._sum if self._sum.any() else towards_camera
        return (mean / mean.norm()).float()[:, None, None].expand(3, height, width)


TASK = Normals
