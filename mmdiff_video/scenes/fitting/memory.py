"""What a fit takes of memory, before it is taken."""

from mmdiff_video.errors import InputError
from mmdiff_video.process import machine_memory
from mmdiff_video.tables import format_bytes

_PYRAMID = 4 / 3
"""Pictures in memory with their halves and quarters, to the pictures alone."""

_FLOATS_PER_PIXEL = 60
"""Of the views of a step: renders, gradients, what SSIM keeps, contributions of Gaussians."""

_FLOATS_PER_GAUSSIAN = 12 + 48 * 5
"""Parameters, gradients, Adam's two moments and projected values, with harmonics of degree 3."""

_BASE = 1 << 30
"""What the program takes beside."""


def require_memory(pictures: int, width: int, height: int, gaussians: int) -> None:
    """Refuse a fit that this machine has no memory for.

    Raises:
        InputError: says how much it takes, and what to lower.
    """
    pixels = width * height
    needed = _BASE + pictures * pixels * 3 * _PYRAMID
    needed += 4 * (pixels * _FLOATS_PER_PIXEL + gaussians * _FLOATS_PER_GAUSSIAN)
    there = machine_memory()
    if needed > there:
        raise InputError(
            f"fitting {gaussians:,} Gaussians to {pictures} pictures of {width} x {height} takes"
            f" about {format_bytes(needed)}, and this machine has {format_bytes(there)}: lower"
            " --picture-side, --max-gaussians or --frames"
        )
