"""Processes that work for this one, and end when it does, however that ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from mmdiff_video.errors import InputError


@contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes for the body; what they have not begun when it ends is not done.

    In a script, call this below ``if __name__ == "__main__":``, as everything that starts
    processes.

    Args:
        count: how many, at least 1.

    Raises:
        InputError: one of them died of something else than an exception.
    """
    context = multiprocessing.get_context("spawn")  # forking would copy threads' locks
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool:
        raise InputError(
            "a worker process died; if it said nothing above, the system killed it, most often for"
            " want of memory: run the same again, with fewer processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which sees to it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # waits for a pipe to close, which a killed process's does at once
    os._exit(1)
