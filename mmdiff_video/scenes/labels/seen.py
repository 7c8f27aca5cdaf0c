"""What a head saw of a scene, between its pictures and its Gaussians."""

from dataclasses import dataclass, field

from torch import Tensor

from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.tasks import Task


@dataclass(frozen=True, eq=False)
class Seen:
    """What one head saw of a scene.

    Attributes:
        run: of the head, in words.
        task: of the head.
        classes: of a segmentation, else None.
        notice: what must be said of its backbone; empty for nothing.
        predictions: of each picture [C, H, W], as the task decodes them.
        channels: [G, C'] float16 on the CPU, fused; None: the head is only compared.
        weight: [G] float32 on the CPU, in how many pixels each Gaussian is seen; None likewise.
    """

    run: str
    task: Task
    classes: Classes | None
    notice: str
    predictions: dict[str, Tensor] = field(default_factory=dict)
    channels: Tensor | None = None
    weight: Tensor | None = None
