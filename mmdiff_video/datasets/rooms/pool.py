"""Draw many rooms on all cores."""

import functools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice

from mmdiff_video.datasets.rooms.render import RoomClip, render_room
from mmdiff_video.datasets.rooms.scene import Room


def render_rooms(
    rooms: Iterable[Room],
    *,
    workers: int | None = None,
    frames: int = 17,
    height: int = 128,
    width: int = 128,
    span: tuple[float, float] = (0.0, 1.0),
) -> Iterator[RoomClip]:
    """Draw rooms in processes of their own and give the clips in order.

    Only a few clips per worker are drawn ahead, so ``rooms`` may be endless. In a script, call this
    below ``if __name__ == "__main__":``, as everything that starts processes.

    Args:
        rooms: from :func:`make_room`.
        workers: processes; None: one per core; 1 or less draws in this process.
        frames, height, width, span: as in :func:`render_room`.

    Raises:
        InputError: as in :func:`render_room`.
    """
    draw = functools.partial(render_room, frames=frames, height=height, width=width, span=span)
    workers = workers or os.cpu_count() or 1
    if workers <= 1:
        yield from map(draw, rooms)
        return
    waiting = iter(rooms)
    context = multiprocessing.get_context("spawn")  # forking would copy threads' locks
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: deque[Future[RoomClip]] = deque(
            pool.submit(draw, room) for room in islice(waiting, 2 * workers)
        )
        while running:
            clip = running.popleft().result()
            running.extend(pool.submit(draw, room) for room in islice(waiting, 1))
            yield clip
