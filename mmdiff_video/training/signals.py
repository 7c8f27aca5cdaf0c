"""Ctrl-C and a scheduler's SIGTERM end a run after its step, not in the middle of it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether somebody asked the run to end.

    Attributes:
        signal: name of the signal, or None.
    """

    signal: str | None = None


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of dying of them; a second Ctrl-C interrupts at once.

    A launcher passes both on to its processes, so a SIGTERM after a SIGINT is no second request.
    Outside the main thread, where Python allows no handlers, nothing is caught.
    """
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == request.signal == "SIGINT":
            raise KeyboardInterrupt
        request.signal = request.signal or name

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals(_worker: int) -> None:
    """For data workers: a terminal's Ctrl-C reaches them too, and the run still needs them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
