"""What a task is, and what the files of the tasks share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdiff_video.checks import check_fields
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError

UNKNOWN = (96, 96, 96)
"""Colour of pixels without truth in pictures of errors."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of a task's loss (the paper states none).

    Raises:
        InputError: a weight below 0, or no term with a weight above 0.

    Attributes:
        terms: names of the weights.
    """

    terms: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fields(self, "loss.", **dict.fromkeys(self.terms, 0))
        if self.terms and not any(getattr(self, term) for term in self.terms):
            names = " and ".join(f"loss.{term}" for term in self.terms)
            raise InputError(f"nothing would be learnt with {names} at 0: give one a weight")


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What a run's data says that a task may need to know.

    Attributes:
        card: of the data set.
        classes: of the data set, where its labels are class ids.
        min_depth, max_depth: metres; depth beyond is neither trained on nor scored.
        eval_crop: where depth is scored; one of
            :data:`mmdiff_video.datasets.pictures.card.EVAL_CROPS`.
    """

    card: ImageCard
    classes: Classes | None
    min_depth: float
    max_depth: float
    eval_crop: str


class Scores(Protocol):
    """Gathers the figures of a task's metrics, picture by picture."""

    def add(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a picture: what :meth:`Task.decode` gave and truth, [C, H, W], and mask [H, W]."""
        ...

    def compute(self) -> dict[str, float]:
        """Name -> figure: those of ``Task.metrics`` in their order, then whatever else there is."""
        ...


class Constant(Protocol):
    """The best prediction that does not look at the picture: what a model must beat.

    Attributes:
        label: its name in tables.
    """

    label: str

    def add(self, target: Tensor, valid: Tensor) -> None:
        """Learn from the truth of a training picture, [C, H, W], and its mask [H, W]."""
        ...

    def predict(self, height: int, width: int) -> Tensor:
        """Answer with a prediction [C, H, W], as :meth:`Task.decode` does."""
        ...


class Task(ABC):
    """A dense task: what the head's output means, how it is learnt, scored and shown.

    The head gives K channels; targets and predictions have C.

    Attributes:
        name: a key of :data:`mmdiff_video.tasks.TASKS`.
        labels: what its pictures are labelled with, and how the files are read and written.
        losses: the config of its loss, a dataclass. No two tasks have a field of the same name,
            because a run of several gets them all in one section.
        head: the head that suits it, a key of :data:`mmdiff_video.dense.heads.HEADS`.
        concepts: whose maps serve it (of the paper's tasks: App. E, Tables 11 to 13).
        metrics: name -> whether more is better; the columns of its tables.
        decimals: of its figures in tables.
        outputs: channels K of the head's output.
        file_format: what the files that :meth:`write` makes hold, for reports.
    """

    name: ClassVar[str]
    labels: ClassVar[Labels]
    losses: ClassVar[type[LossConfig]]
    head: ClassVar[str]
    concepts: ClassVar[tuple[str, ...]]
    metrics: ClassVar[Mapping[str, bool]]
    decimals: ClassVar[int] = 4
    outputs: int
    file_format: ClassVar[str] = "PNG"

    @classmethod
    @abstractmethod
    def build(cls, loss: Any, data: DataFacts) -> Self:
        """Build the task of a run; ``loss`` is of the class ``losses``.

        Raises:
            InputError: facts of the data that make no sense for it.
        """

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the loss, each the mean over the batch.

        Args:
            output: [B, K, H, W] of the head, at the size of the truth.
            target: [B, C, H, W].
            valid: [B, H, W], where the truth is known.
        """

    @abstractmethod
    def decode(self, output: Tensor) -> Tensor:
        """Turn [..., K, H, W] of the head into predictions [..., C, H, W]."""

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
        """Colour a prediction or truth [C, H, W]: uint8 [H, W, 3].

        Args:
            values: what is coloured.
            like: a map [C, H, W] that sets the range of the colours, where the task has such a
                range; None: ``values``.
        """

    @abstractmethod
    def error(self, prediction: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.uint8]:
        """Colour what is wrong: uint8 [H, W, 3]; grey where the truth is unknown."""

    def write(self, prediction: Tensor, path: Path) -> Path:
        """Write a prediction [C, H, W] to a file that other programs read, in one step.

        Args:
            prediction: as :meth:`decode` gives it.
            path: ends in ``.png``.

        Returns:
            The file: ``path``, or the same with another ending where a PNG cannot hold the values.

        Raises:
            OSError: the file cannot be written.
        """
        self.labels.write(path, prediction.cpu().numpy(), None)
        return path


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of [B, H, W] over the valid pixels of each picture: [B]; 0 where there is none."""
    weights = valid.to(values.dtype)
    # where, because what is invalid may be infinite
    return torch.where(valid, values, 0).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1)


def heat(values: Tensor, valid: Tensor) -> NDArray[np.uint8]:
    """Colour errors 0..1, [H, W], from black over red to yellow; grey where not valid."""
    from matplotlib import colormaps

    table = (colormaps["hot"](np.linspace(0, 0.9, 256))[:, :3] * 255).astype(np.uint8)
    picture = table[(values.clamp(0, 1) * 255).byte().cpu().numpy()]
    picture[~valid.cpu().numpy()] = UNKNOWN
    return picture
