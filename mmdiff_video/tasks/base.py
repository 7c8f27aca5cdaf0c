"""What a task is: loss, metrics, colours and concepts, nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.checks import check_fields
from mmdiff_video.errors import InputError

_TERMS = {"seg": ("cross_entropy",), "depth": ("silog", "gradient"), "saliency": ("bce", "iou")}
"""Task -> the terms of its loss."""


@dataclass(frozen=True, kw_only=True)
class DenseLossConfig:
    """Weights of the loss's terms (the paper states none). Each task has its own.

    Attributes:
        cross_entropy: seg.
        silog: depth; the scale-invariant logarithmic loss.
        variance_focus: depth; its lambda (0.85 in BTS and AdaBins, 0.5 in Eigen et al.).
        gradient: depth; slopes of the logarithmic error.
        gradient_scales: depth; each half as fine as the one before.
        bce: saliency; binary cross-entropy.
        iou: saliency; one minus the soft intersection over union.
    """

    cross_entropy: float = 1.0
    silog: float = 1.0
    variance_focus: float = 0.85
    gradient: float = 0.5
    gradient_scales: int = 4
    bce: float = 1.0
    iou: float = 1.0

    def __post_init__(self) -> None:
        weights = dict.fromkeys((name for names in _TERMS.values() for name in names), 0)
        check_fields(self, "loss.", **weights, gradient_scales=1)
        if not 0 <= self.variance_focus <= 1:
            raise InputError(f"loss.variance_focus must be in [0, 1], not {self.variance_focus}")

    def check_task(self, task: str) -> None:
        """Refuse weights of 0 for all terms of a task.

        Raises:
            InputError: names the terms.
        """
        terms = _TERMS.get(task, ())  # an unknown task is refused where the task is built
        if terms and not any(getattr(self, term) for term in terms):
            names = " and ".join(f"loss.{term}" for term in terms)
            raise InputError(f"nothing would be learnt with {names} at 0: give {task} a loss")


class Scores(Protocol):
    """Gathers a metric's figures picture by picture."""

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a picture: what :meth:`Task.decode` gave, truth and mask, all [H, W], on the CPU."""
        ...

    def compute(self) -> dict[str, float]:
        """Name -> figure, in the order of :attr:`Task.metrics`, then whatever else there is."""
        ...


class Constant(Protocol):
    """The best prediction that does not look at the picture: what a model must beat."""

    label: str

    def add(self, target: Tensor, valid: Tensor) -> None:
        """Learn from the truth of a training picture, [H, W]."""
        ...

    def predict(self, height: int, width: int) -> Tensor:
        """Answer with a prediction [H, W], as :meth:`Task.decode` does."""
        ...


class Task(ABC):
    """A dense task.

    Attributes:
        name: a key of :data:`mmdiff_video.tasks.TASKS`.
        head: the head that suits it, a key of :data:`mmdiff_video.dense.heads.HEADS`.
        concepts: whose maps the paper reads for it.
        metrics: name -> whether more is better.
        outputs: channels K of the head's output.
    """

    name: ClassVar[str]
    head: ClassVar[str]
    concepts: ClassVar[tuple[str, ...]]
    metrics: ClassVar[Mapping[str, bool]]
    outputs: int

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the loss, each the mean over the batch.

        Args:
            output: [B, K, H, W] of the head, at the size of the truth.
            target: [B, H, W].
            valid: [B, H, W], where the truth is known.
        """

    @abstractmethod
    def decode(self, output: Tensor) -> Tensor:
        """Turn [..., K, H, W] into predictions [..., H, W]: class ids, metres, or 0..1."""

    @abstractmethod
    def scores(self) -> Scores:
        """Start gathering metrics."""

    @abstractmethod
    def constant(self) -> Constant:
        """Start learning the constant baseline."""

    @abstractmethod
    def protocol(self) -> str:
        """Say how the metrics are computed, beside the figures."""

    @abstractmethod
    def color(self, values: Tensor, like: Tensor | None = None) -> NDArray[np.uint8]:
        """Colour a prediction or truth [H, W]: uint8 [H, W, 3].

        ``like``: a map that sets the range of the colours, where a task has such a range.
        """

    @abstractmethod
    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """Colour what is wrong: uint8 [H, W, 3]; grey where the truth is unknown."""

    @abstractmethod
    def image(self, prediction: Tensor) -> Image.Image:
        """Make the picture file of a prediction [H, W] that other programs read."""


UNKNOWN = (96, 96, 96)
"""Colour of pixels without truth in pictures of errors."""


def heat(values: Tensor, valid: Tensor) -> NDArray[np.uint8]:
    """Colour errors 0..1 from black over red to yellow; grey where not valid."""
    from matplotlib import colormaps

    table = (colormaps["hot"](np.linspace(0, 0.9, 256))[:, :3] * 255).astype(np.uint8)
    picture = table[(values.clamp(0, 1) * 255).byte().cpu().numpy()]
    picture[~valid.cpu().numpy()] = UNKNOWN
    return picture
