"""Which tasks a run of ``mmdiff-video dense`` learns, and from which pictures."""

from dataclasses import dataclass, replace
from typing import Self

from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.tasks import task_named


@dataclass(frozen=True)
class TaskData:
    """A task and where its pictures come from.

    Attributes:
        task: its name.
        name: a card of labelled pictures; None: the config's data.
        root: the folder the data lies in.
    """

    task: str
    name: str | None = None
    root: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TASK``, ``TASK=DATA`` or ``TASK=DATA:ROOT``.

        Raises:
            InputError: an unknown task.
        """
        task, _, data = text.partition("=")
        task_named(task)
        name, _, root = data.partition(":")
        return cls(task, name or None, root or None)

    def config_of(self, config: DenseConfig) -> DenseConfig:
        """The config of this task alone, with its data in place of the whole's."""
        data = config.data
        if self.name is not None:
            data = replace(data, name=self.name, root=self.root)
        return config.of_task(self.task, data=data)
