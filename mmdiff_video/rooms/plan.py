"""Where things may stand: not in each other, before a window, or in the camera's way."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.scene import Thing, Vec3

WALLS = ("back", "left", "right", "front")
_YAW = {"back": 0.0, "left": math.pi / 2, "right": -math.pi / 2, "front": math.pi}
_WALK_MARGIN = 0.65
_FLAT = 0.05  # lower things (rugs) are in nobody's way


class Bounds(NamedTuple):
    """An axis-aligned box in the world: two corners [3]."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bounds(thing: Thing) -> Bounds:
    """The box round a thing as it stands."""
    w, d, h = thing.size
    c, s = abs(math.cos(thing.yaw)), abs(math.sin(thing.yaw))
    half = np.array([(w * c + d * s) / 2, (w * s + d * c) / 2, 0.0])
    at = np.array(thing.at)
    return Bounds(at - half, at + half + [0, 0, h])


class Plan:
    """A room that is being furnished.

    Attributes:
        size: width, depth, height of the room, metres.
        things: what has been placed, in order.
    """

    def __init__(self, size: Vec3) -> None:
        self.size = size
        self.things: list[Thing] = []
        self._standing: list[Bounds] = []
        self._on_walls: dict[str, list[tuple[float, float, float, float]]] = {w: [] for w in WALLS}
        self._walk = np.zeros((0, 3))
        self._sight = np.zeros((0, 3))

    def keep_clear(self, walk: NDArray[np.float64], sight: NDArray[np.float64]) -> None:
        """Reserve the camera's path [N, 3] and points [M, 3] through which it must see."""
        self._walk, self._sight = walk, sight

    def length(self, wall: str) -> float:
        """Length of a wall in metres."""
        return self.size[0] if wall in ("back", "front") else self.size[1]

    def against(self, thing: Thing, wall: str, along: float, gap: float = 0.02) -> Thing:
        """Move a thing to a wall, facing the room; ``along`` is x or y of its middle."""
        width, depth, _ = self.size
        off = thing.size[1] / 2 + gap
        at = {
            "back": (along, depth - off, 0.0),
            "front": (along, off, 0.0),
            "left": (off, along, 0.0),
            "right": (width - off, along, 0.0),
        }[wall]
        return dataclasses.replace(thing, at=at, yaw=_YAW[wall], spot=f"{wall} wall")

    def hang(self, thing: Thing, wall: str, along: float, height: float) -> Thing:
        """Put a thing on a wall; ``height`` of its lower edge."""
        width, depth, _ = self.size
        at = {
            "back": (along, depth, height),
            "front": (along, 0.0, height),
            "left": (0.0, along, height),
            "right": (width, along, height),
        }[wall]
        return dataclasses.replace(thing, at=at, yaw=_YAW[wall], spot=f"{wall} wall")

    def fits(self, thing: Thing, margin: float = 0.05) -> bool:
        """Whether a standing thing is inside the room, touches nothing and hides nothing."""
        low, high = bounds(thing)
        if (low[:2] < -1e-6).any() or (high[:2] > np.array(self.size[:2]) + 1e-6).any():
            return False
        if high[2] > self.size[2]:
            return False
        if high[2] < _FLAT:
            return True
        for other in self._standing:
            apart = (low[:2] - margin > other.high[:2]) | (high[:2] + margin < other.low[:2])
            if not apart.any():
                return False
        if not self.clear_of_camera(thing):
            return False
        return all(self._wall_free(wall, rect) for wall, rect in self._touching(low, high))

    def clear_of_camera(self, thing: Thing) -> bool:
        """Whether a thing is neither in the camera's path nor before the salient thing."""
        low, high = bounds(thing)
        for points, grow in ((self._walk, _WALK_MARGIN), (self._sight, 0.0)):
            inside = (points > low - grow) & (points < high + grow)
            if inside.all(1).any():
                return False
        return True

    def _touching(self, low: NDArray, high: NDArray):
        """Give the walls that a box stands close to, and the rectangles that it covers there."""
        width, depth, _ = self.size
        near = 0.25
        for wall, close, axis in (
            ("back", depth - high[1] < near, 0),
            ("front", low[1] < near, 0),
            ("left", low[0] < near, 1),
            ("right", width - high[0] < near, 1),
        ):
            if close:
                yield wall, (float(low[axis]), float(high[axis]), float(low[2]), float(high[2]))

    def wall_free(self, thing: Thing, wall: str, along: float, height: float, gap: float) -> bool:
        """Whether a thing could hang there."""
        half = thing.size[0] / 2 + gap
        if along - half < 0.05 or along + half > self.length(wall) - 0.05:
            return False
        if height + thing.size[2] > self.size[2] - 0.05:
            return False
        return self._wall_free(
            wall, (along - half, along + half, height - gap, height + thing.size[2] + gap)
        )

    def _wall_free(self, wall: str, rect: tuple[float, float, float, float]) -> bool:
        a, b, c, d = rect
        return all(
            b <= a2 or a >= b2 or d <= c2 or c >= d2 for a2, b2, c2, d2 in self._on_walls[wall]
        )

    def add(self, thing: Thing) -> int:
        """Add a standing thing; returns its place in the list."""
        low, high = bounds(thing)
        if high[2] >= _FLAT:
            self._standing.append(Bounds(low, high))
            for wall, rect in self._touching(low, high):
                self._on_walls[wall].append(rect)
        self.things.append(thing)
        return len(self.things) - 1

    def add_hanging(self, thing: Thing, wall: str, along: float) -> None:
        """Add a thing that :meth:`hang` has put on a wall."""
        half, z = thing.size[0] / 2, thing.at[2]
        self._on_walls[wall].append((along - half, along + half, z, z + thing.size[2]))
        self.things.append(thing)

    def add_loose(self, thing: Thing) -> None:
        """Add a thing that is in nobody's way: on a table, or under the ceiling."""
        self.things.append(thing)
