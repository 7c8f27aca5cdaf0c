"""The dense tasks by name."""

from mmdiff_video.datasets.pictures.labelled import TASKS, Classes
from mmdiff_video.errors import unknown_name
from mmdiff_video.tasks.base import Constant, DenseLossConfig, Scores, Task
from mmdiff_video.tasks.depth import Depth
from mmdiff_video.tasks.saliency import Saliency
from mmdiff_video.tasks.seg import Segmentation

__all__ = [
    "TASKS",
    "Constant",
    "DenseLossConfig",
    "Depth",
    "Saliency",
    "Scores",
    "Segmentation",
    "Task",
    "build_task",
]


def build_task(
    name: str,
    loss: DenseLossConfig,
    *,
    classes: Classes | None,
    min_depth: float,
    max_depth: float,
    eval_crop: str,
) -> Task:
    """Build a task by name.

    Args:
        name: one of :data:`TASKS`.
        loss: weights of the loss's terms.
        classes: for ``seg``.
        min_depth, max_depth, eval_crop: for ``depth``.

    Raises:
        InputError: an unknown name; lists the valid ones.
    """
    if name == "seg":
        assert classes is not None, "a reader of labels gives their classes"
        return Segmentation(classes, loss)
    if name == "depth":
        return Depth(min_depth, max_depth, eval_crop, loss)
    if name == "saliency":
        return Saliency(loss)
    raise unknown_name("task", name, TASKS)
