"""Metrics for TensorBoard."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

# protobuf makes these when it is imported
Event: Any = getattr(event_pb2, "Event")  # noqa: B009
SessionLog: Any = getattr(event_pb2, "SessionLog")  # noqa: B009
Summary: Any = getattr(summary_pb2, "Summary")  # noqa: B009


class Board:
    """Writes scalars to an event file of its own.

    Here and not in a thread, as :class:`torch.utils.tensorboard.SummaryWriter` does it: a full disk
    would show as the traceback of that thread.

    Args:
        folder: of the event files; made where it is missing.
        first_step: steps done before; what older files say of later ones is void.

    Raises:
        OSError: as every method.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self.file = (folder / name).open("wb", buffering=0)
        self.records = RecordWriter(self.file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Record the values of a step."""
        scalars = [Summary.Value(tag=name, simple_value=v) for name, v in values.items()]
        self._write(Event(step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        self.file.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        try:
            self.records.write(event.SerializeToString())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.file.name)) from None
