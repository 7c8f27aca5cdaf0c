"""What finding features takes of memory, before it is taken."""

import os
from collections.abc import Sequence

from mmdiff_video.errors import InputError
from mmdiff_video.process import machine_memory
from mmdiff_video.scenes.capture.copies import Copy
from recon.capture.colmap_runner import FEATURES_SIDE

_BYTES_PER_PIXEL = 300
"""Of one thread that finds features: pictures of twice the size, at 11 blurs, as floats, and their
gradients."""

_BASE = 700 * 2**20
"""What the two processes take beside."""


def feature_threads(copies: Sequence[Copy]) -> int:
    """How many threads may look for features at once.

    Raises:
        InputError: not even one has the memory.
    """
    pixels = max(_looked_at(copy) for copy in copies)
    room = machine_memory() - _BASE
    threads = min(os.cpu_count() or 1, int(room // (pixels * _BYTES_PER_PIXEL)))
    if threads < 1:
        needed = (_BASE + pixels * _BYTES_PER_PIXEL) / 2**30
        raise InputError(
            f"finding features takes {needed:.1f} GiB of memory, and this machine has"
            f" {machine_memory() / 2**30:.1f}: lower --longest-side below {FEATURES_SIDE}"
        )
    return threads


def _looked_at(copy: Copy) -> int:
    shrunk = min(1.0, FEATURES_SIDE / max(copy.width, copy.height))
    return round(copy.width * copy.height * shrunk**2)
