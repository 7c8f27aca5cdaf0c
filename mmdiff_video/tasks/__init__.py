"""The dense tasks by name. Each is one file, and one line here."""

import dataclasses
import functools
from importlib import import_module

from mmdiff_video.config import Variants
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import unknown_name
from mmdiff_video.tasks.base import Constant, DataFacts, LossConfig, Scores, Task

__all__ = [
    "LOSS_VARIANTS",
    "TASKS",
    "Constant",
    "DataFacts",
    "LossConfig",
    "Scores",
    "Task",
    "build_task",
    "join_tasks",
    "labels_of",
    "loss_of",
    "task_named",
]

_FILES = (
    "seg",
    "depth",
    "saliency",
    "normals",
)
"""The files of the tasks, without ``.py``; each calls its task ``TASK``."""

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (import_module(f"{__name__}.{file}").TASK for file in _FILES)
}
"""Tasks by name."""

_AND = "+"
"""Stands between the names of tasks that share a run."""


def task_named(name: str) -> type[Task]:
    """Look a task up.

    Raises:
        InputError: an unknown name; lists the valid ones.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def labels_of(name: str) -> Labels:
    """What a task's pictures are labelled with.

    Raises:
        InputError: as :func:`task_named`.
    """
    return task_named(name).labels


def build_task(name: str, loss: LossConfig, data: DataFacts) -> Task:
    """Build the task of a run.

    Args:
        name: a key of :data:`TASKS`.
        loss: the config of its loss.
        data: what the data says.

    Raises:
        InputError: an unknown name, or facts of the data that make no sense for the task.
    """
    task = task_named(name)
    assert isinstance(loss, task.losses), f"{name} is learnt by {task.losses}, not {type(loss)}"
    return task.build(loss, data)


def join_tasks(*names: str) -> str:
    """Name several tasks at once, as the ``task`` of a config whose ``loss`` serves them all.

    >>> join_tasks("seg", "depth")
    'seg+depth'
    """
    return _AND.join(names)


def loss_of(name: str, loss: LossConfig) -> LossConfig:
    """Take the config of one task's loss out of that of several; what is not there is default.

    Raises:
        InputError: an unknown name, or a loss of which no term is left.
    """
    schema = task_named(name).losses
    own = (field.name for field in dataclasses.fields(schema))
    return schema(**{key: getattr(loss, key) for key in own if hasattr(loss, key)})


@functools.cache
def _loss_schema(name: str) -> type:
    """The config of a task's loss, or, for joined names, one with the keys of all of theirs."""
    schemas = [task_named(part).losses for part in dict.fromkeys(name.split(_AND))]
    if len(schemas) == 1:
        return schemas[0]
    fields = [
        (f.name, f.type, dataclasses.field(default=f.default))
        for schema in schemas
        for f in dataclasses.fields(schema)
    ]
    made = dataclasses.make_dataclass(
        "JointLossConfig", fields, bases=(LossConfig,), frozen=True, kw_only=True
    )
    made.__doc__ = f"The losses of {' and '.join(name.split(_AND))}."
    return made


def _loss_keys() -> frozenset[str]:
    return frozenset(f.name for task in TASKS.values() for f in dataclasses.fields(task.losses))


LOSS_VARIANTS = Variants("task", _loss_schema, _loss_keys)
"""Of the field ``loss`` of a run's config; the key ``task`` beside it names one, or several."""
