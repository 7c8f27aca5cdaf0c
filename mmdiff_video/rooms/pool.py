"""Draw many rooms on all cores."""

import functools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice, repeat

from mmdiff_video.rooms.drawing import RoomClip, draw_room
from mmdiff_video.rooms.scene import Room
from mmdiff_video.workers import worker_pool


def draw_rooms(
    rooms: Iterable[Room],
    *,
    workers: int | None = None,
    frames: int = 17,
    height: int = 128,
    width: int = 128,
    spans: Iterable[tuple[float, float]] | None = None,
) -> Iterator[RoomClip]:
    """Draw rooms in processes of their own and give the clips in order.

    Only a few clips per worker are drawn ahead, so ``rooms`` may be endless. The processes are
    those of :func:`mmdiff_video.workers.worker_pool`.

    Args:
        rooms: from :func:`make_room`.
        workers: processes; None: one per core; 1 or less draws in this process.
        frames, height, width: as in :func:`draw_room`.
        spans: for each room, the part of its walk, 0..1; None: the whole walk.

    Raises:
        InputError: as in :func:`draw_room`, or a process died.
    """
    draw = functools.partial(_draw_job, frames=frames, height=height, width=width)
    whole = repeat((0.0, 1.0))
    jobs = zip(rooms, whole if spans is None else spans, strict=spans is not None)
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers <= 1:
        yield from map(draw, jobs)
        return
    with worker_pool(workers) as pool:
        running: deque[Future[RoomClip]] = deque(
            pool.submit(draw, job) for job in islice(jobs, 2 * workers)
        )
        while running:
            clip = running.popleft().result()
            running.extend(pool.submit(draw, job) for job in islice(jobs, 1))
            yield clip


def _draw_job(
    job: tuple[Room, tuple[float, float]], *, frames: int, height: int, width: int
) -> RoomClip:
    room, span = job
    return draw_room(room, frames=frames, height=height, width=width, span=span)
