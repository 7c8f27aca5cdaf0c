"""What patterns are drawn on: coordinates and noise that wrap round, and chance."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Canvas:
    """Coordinates ``u``, ``v`` in 0..1 [side, side], noise, and a random generator."""

    def __init__(self, seed: int, side: int) -> None:
        self.rng = np.random.default_rng(seed)
        line = (np.arange(side, dtype=np.float32) + 0.5) / side
        self.u, self.v = np.meshgrid(line, line)
        self.side = side

    def count(self, low: int, high: int) -> int:
        """A whole number from low..high, both included."""
        return int(self.rng.integers(low, high + 1))

    def noise(self, kind: str = "cloud") -> Array:
        """Fractal noise in about -1..1: "cloud" (soft), "grain" (fine), "streak" (along v)."""
        tiles = _noise_tiles(kind, self.side)
        tile = tiles[int(self.rng.integers(len(tiles)))]
        shift = self.rng.integers(0, self.side, 2)
        return np.roll(tile, (int(shift[0]), int(shift[1])), (0, 1))

    def cells(self, values: NDArray) -> Array:
        """Give every whole number of the picture ``values`` a random one in 0..1."""
        table = self.rng.random(997, dtype=np.float32)
        return table[values.astype(np.int64) % 997]


@functools.cache
def _noise_tiles(kind: str, side: int) -> Array:
    """Give noise tiles of a spectrum: float32 [8, side, side], mean 0, standard deviation 0.4."""
    slope, stretch = {"cloud": (1.7, 1.0), "grain": (0.7, 1.0), "streak": (1.1, 14.0)}[kind]
    rng = np.random.default_rng(17)
    fy = np.fft.fftfreq(side)[:, None] * side
    fx = np.fft.rfftfreq(side)[None] * side
    radius = np.sqrt((fy * stretch) ** 2 + fx**2)
    radius[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((8, side, side)))
    tiles = np.fft.irfft2(white / radius**slope, s=(side, side))
    return (0.4 * tiles / tiles.std((1, 2), keepdims=True)).astype(np.float32)
