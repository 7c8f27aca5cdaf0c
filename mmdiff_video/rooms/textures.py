"""Materials become square pictures that repeat, with their mip levels, in one pool.

One lookup serves every surface of a room, whatever it is made of, and mip levels keep fine patterns
from flickering along a walk.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.materials import Material
from mmdiff_video.rooms.patterns import paint

Array = NDArray[Any]

_LEVELS = 8


def to_linear(srgb: Array) -> Array:
    """Undo the sRGB transfer curve (a cubic that is right to 0.002)."""
    return srgb * (
        srgb * (srgb * np.float32(0.305306) + np.float32(0.682171)) + np.float32(0.012523)
    )


def to_srgb(linear: Array) -> Array:
    """Apply the sRGB transfer curve to values of at least 0."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


class TexturePool:
    """The textures of a room, looked up together. They are painted when they are first seen.

    Attributes:
        mean: [M, 3], about the linear colour of each material, known without painting.
    """

    def __init__(self, materials: Sequence[Material]) -> None:
        self._materials = materials
        self._painted = np.zeros(len(materials), dtype=bool)
        self._offset = np.zeros((len(materials), _LEVELS), dtype=np.int32)
        self._side = np.ones(len(materials), dtype=np.int32)
        self._tile = np.array([m.tile or 1.0 for m in materials], dtype=np.float32)
        self._texels = np.zeros((0, 3), dtype=np.float32)
        colors = np.array([m.colors[:2] for m in materials], dtype=np.float32)
        self.mean = np.einsum(
            "mks,k->ms", to_linear(colors), np.array([0.65, 0.35], dtype=np.float32)
        )

    def _paint(self, places: NDArray) -> None:
        texels = [self._texels]
        start = len(self._texels)
        for i in places:
            level = to_linear(paint(self._materials[i]))
            self._side[i] = side = len(level)
            for number in range(_LEVELS):  # small textures repeat their last level
                self._offset[i, number] = start
                texels.append(level.reshape(-1, 3))
                start += len(texels[-1])
                if len(level) > 1 and number + 1 < side.bit_length():
                    rows = level[::2] + level[1::2]
                    level = (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
        self._texels = np.concatenate(texels)
        self._painted[places] = True

    def look_up(self, material: NDArray, uv: Array, footprint: Array) -> Array:
        """Give the linear colour of surface points.

        Args:
            material: int [N], places in the materials that the pool was made of.
            uv: [N, 2] metres along the surface (0..1 where the material's tile is 0).
            footprint: [N] metres that a pixel covers there.

        Returns:
            [N, 3].
        """
        seen = np.zeros(len(self._materials), dtype=bool)
        seen[material] = True
        if (fresh := np.flatnonzero(seen & ~self._painted)).size:
            self._paint(fresh)
        side = self._side[material]
        place = uv / self._tile[material][:, None]
        place -= np.floor(place)
        top = np.minimum(np.log2(side), _LEVELS - 1).astype(np.float32)
        level = np.clip(np.log2(np.maximum(footprint * side / self._tile[material], 1e-6)), 0, top)
        low = level.astype(np.int32)
        between = (level - low)[:, None]
        fine = self._bilinear(material, place, side, low)
        coarse = self._bilinear(material, place, side, np.minimum(low + 1, top.astype(np.int32)))
        return fine + (coarse - fine) * between

    def _bilinear(self, material: NDArray, place: Array, side: NDArray, level: NDArray) -> Array:
        side = np.maximum(side >> level, 1)
        mask = side - 1  # sides are powers of two
        texel = place * side[:, None] - np.float32(0.5)
        corner = np.floor(texel)
        fx, fy = (texel - corner).T[..., None]
        x0, y0 = corner.astype(np.int32).T
        x1, y1 = (x0 + 1) & mask, ((y0 + 1) & mask) * side
        x0, y0 = x0 & mask, (y0 & mask) * side
        start = self._offset[material, level]
        take = self._texels.take
        above = take(start + y0 + x0, 0)
        above += (take(start + y0 + x1, 0) - above) * fx
        below = take(start + y1 + x0, 0)
        below += (take(start + y1 + x1, 0) - below) * fx
        return above + (below - above) * fy
