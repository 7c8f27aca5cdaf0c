"""What a room is, as plain frozen data: shapes, things, lights and the camera's walk.

Metres; the world's z axis points up, the floor lies at z = 0. Things face -y in their own frame.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from mmdiff_video.rooms.materials import Material
from mmdiff_video.rooms.rng import DIGITS

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """A box; its top is ``taper`` times as wide as its bottom. ``half``: half its sides."""

    half: Vec3
    taper: float = 1.0


@dataclass(frozen=True)
class Lathe:
    """A profile of (radius, height) points turned round the z axis."""

    profile: tuple[tuple[float, float], ...]
    sides: int = 20


@dataclass(frozen=True)
class Blob:
    """A superellipsoid: ``power`` 2 is an ellipsoid, larger goes towards a rounded box."""

    half: Vec3
    power: float = 2.0


@dataclass(frozen=True)
class Leaf:
    """A blade that leaves the origin along +y and bends down by ``bend`` radians in all."""

    length: float
    width: float
    bend: float


@dataclass(frozen=True)
class Drape:
    """A hanging cloth in the xz plane, ``waves`` folds of depth ``fold``; the origin is its middle.

    ``half``: half its width and height.
    """

    half: tuple[float, float]
    waves: int
    fold: float


Shape = Box | Lathe | Blob | Leaf | Drape


@dataclass(frozen=True)
class Part:
    """A shape of one material: turned about x, then y, then z (radians), then moved to ``at``."""

    shape: Shape
    material: Material
    at: Vec3
    turn: Vec3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Thing:
    """One instance of a class.

    Attributes:
        kind: its class, a name of :data:`CLASSES`.
        name: what a caption calls it, for instance "armchair".
        color, word: of its main material.
        size: width, depth, height of the box round it, in its own frame.
        at: the middle of the bottom of that box.
        yaw: turned about z, radians.
        parts: in its own frame, whose origin is ``at``.
        on: place in ``Room.things`` of what it stands on, where that is not the floor.
        spot: where it stands or hangs: "floor", "back wall" (or left, right, front), "corner",
            "ceiling", "on top", "at the table"; empty: nowhere that a caption speaks of.
    """

    kind: str
    name: str
    color: str
    word: str
    size: Vec3
    parts: tuple[Part, ...]
    at: Vec3 = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    on: int | None = None
    spot: str = ""


@dataclass(frozen=True)
class Lamp:
    """A light bulb; ``power`` is its colour times its strength."""

    at: Vec3
    power: Vec3
    radius: float


@dataclass(frozen=True)
class Opening:
    """A window that lets the sky in: the rectangle ``at`` +- ``right`` +- ``up``."""

    at: Vec3
    right: Vec3
    up: Vec3
    normal: Vec3
    power: Vec3


@dataclass(frozen=True)
class Sun:
    """Sunlight: ``towards`` the sun, a unit vector."""

    towards: Vec3
    power: Vec3


@dataclass(frozen=True)
class Walk:
    """Control points of two cubic B-splines, the camera's path and what it looks at.

    ``focal`` is in units of the picture's longer side; ``roll`` in radians per control point.
    """

    eyes: tuple[Vec3, ...]
    targets: tuple[Vec3, ...]
    roll: tuple[float, ...]
    focal: float


@dataclass(frozen=True)
class Room:
    """A whole scene. The instance id of a thing is its place in ``things``.

    Attributes:
        split, index, seed: what it was made from.
        size: width (x), depth (y), height (z); x and y run from 0.
        things: walls, floor and ceiling first.
        salient: place of the salient thing in ``things``.
        ambient: colour of the light that comes from everywhere.
    """

    split: str
    index: int
    seed: int
    size: Vec3
    things: tuple[Thing, ...]
    salient: int
    lamps: tuple[Lamp, ...]
    openings: tuple[Opening, ...]
    sun: Sun | None
    ambient: Vec3
    walk: Walk
    caption: str


def rounded(value: Any) -> Any:
    """Round every float inside (nested) scene data to :data:`DIGITS` decimals; -0 becomes 0."""
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0
    if isinstance(value, tuple):
        return tuple(rounded(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: rounded(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def scene_hash(room: Room) -> str:
    """Fingerprint a scene description: the same on every machine, 16 hexadecimal digits."""
    text = json.dumps(_plain(room), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{round(value, DIGITS) + 0.0:.{DIGITS}f}"
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return value
