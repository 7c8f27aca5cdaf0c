"""How what a head sees in pictures becomes channels of Gaussians, and a picture again: by task."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.errors import InputError

_PLAIN, _SALIENT = (0.1, 0.1, 0.4), (1.0, 0.85, 0.2)
"""Colours of saliency 0 and 1: none of them is the grey of what was not seen."""


class LiftedTask(ABC):
    """A task whose predictions are fused on Gaussians.

    Attributes:
        name: of the task, a key of :data:`mmdiff_video.tasks.TASKS`.
    """

    name: ClassVar[str]

    @abstractmethod
    def width(self, classes: Classes | None) -> int:
        """Number of channels C.

        Raises:
            ValueError: ``classes`` are there and do not belong there, or the other way round.
        """

    @abstractmethod
    def maps(self, output: Tensor, viewmat: Tensor) -> Tensor:
        """Turn the head's output for a picture [K, H, W] into what is fused, [H, W, C].

        ``viewmat`` [4, 4] is the picture's camera.
        """

    @abstractmethod
    def prediction(self, rendered: Tensor, viewmat: Tensor) -> Tensor:
        """Turn rendered means of channels [H, W, C] into what the head would predict there.

        Returns:
            [C', H, W], as :meth:`mmdiff_video.tasks.base.Task.decode` gives it.
        """

    def target(self, prediction: Tensor) -> Tensor:
        """What the head's own prediction [C', H, W] is as a truth to score against."""
        return prediction

    @abstractmethod
    def color(self, channels: Tensor, classes: Classes | None) -> Tensor:
        """Colours [G, 3] in [0, 1] of channels [G, C]."""


class LiftedClasses(LiftedTask):
    """Probabilities of the classes are fused; the largest mean is the class."""

    name: ClassVar[str] = "seg"

    def width(self, classes: Classes | None) -> int:
        if classes is None:
            raise ValueError(f"it names no classes, which {self.name} needs")
        return len(classes.names)

    def maps(self, output: Tensor, viewmat: Tensor) -> Tensor:
        return output.softmax(0).movedim(0, -1)

    def prediction(self, rendered: Tensor, viewmat: Tensor) -> Tensor:
        return rendered.argmax(-1)[None]

    def color(self, channels: Tensor, classes: Classes | None) -> Tensor:
        assert classes is not None, "a head of classes has them"
        palette = torch.tensor(classes.colors, dtype=torch.float32) / 255
        return palette[channels.argmax(-1)]


class LiftedSaliency(LiftedTask):
    """Saliency itself is fused; a head's mask is where its saliency is above a half."""

    name: ClassVar[str] = "saliency"

    def width(self, classes: Classes | None) -> int:
        return _without_classes(self.name, classes, 1)

    def maps(self, output: Tensor, viewmat: Tensor) -> Tensor:
        return output.sigmoid().movedim(0, -1)

    def prediction(self, rendered: Tensor, viewmat: Tensor) -> Tensor:
        return rendered.movedim(-1, 0).clamp(0, 1)

    def target(self, prediction: Tensor) -> Tensor:
        return (prediction > 0.5).to(prediction.dtype)

    def color(self, channels: Tensor, classes: Classes | None) -> Tensor:
        plain, salient = torch.tensor(_PLAIN), torch.tensor(_SALIENT)
        return torch.lerp(plain, salient, channels.float().clamp(0, 1))


class LiftedNormals(LiftedTask):
    """Normals are fused in the axes of the world; their mean is brought to length 1."""

    name: ClassVar[str] = "normals"

    def width(self, classes: Classes | None) -> int:
        return _without_classes(self.name, classes, 3)

    def maps(self, output: Tensor, viewmat: Tensor) -> Tensor:
        vectors = F.normalize(output, dim=0, eps=1e-6).movedim(0, -1)
        return vectors @ viewmat[:3, :3].to(vectors)  # by the transpose, from the right

    def prediction(self, rendered: Tensor, viewmat: Tensor) -> Tensor:
        turned = rendered @ viewmat[:3, :3].T.to(rendered)
        return F.normalize(turned, dim=-1, eps=1e-6).movedim(-1, 0)

    def color(self, channels: Tensor, classes: Classes | None) -> Tensor:
        return (F.normalize(channels.float(), dim=-1, eps=1e-6) + 1) / 2


LIFTED: dict[str, LiftedTask] = {
    task.name: task for task in (LiftedClasses(), LiftedSaliency(), LiftedNormals())
}
"""By name of the task; in the order in which a scene is painted, if it has several."""

DEPTH = "depth"
"""The task whose predictions are compared with the depth of the scene, and not fused: the scene has
a geometry."""


def _without_classes(name: str, classes: Classes | None, width: int) -> int:
    if classes is not None:
        raise ValueError(f"it names classes, and {name} has none")
    return width


def check_task(name: str, run: str) -> None:
    """Refuse a task that a scene can do nothing with.

    Raises:
        InputError: it is neither fused nor compared.
    """
    if name not in LIFTED and name != DEPTH:
        known = ", ".join([*LIFTED, DEPTH])
        raise InputError(f"'{run}' is a head for {name}, which no scene takes; these do: {known}")
