"""Rooms become triangles."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.classes import CLASS_IDS
from mmdiff_video.rooms.materials import Material
from mmdiff_video.rooms.scene import Blob, Box, Drape, Lathe, Leaf, Part, Room, Vec3

Array = NDArray[Any]

_GRAINED = ("wood", "planks", "boards")


@dataclass(frozen=True, eq=False)
class Mesh:
    """The triangles of a room. T of them; three corners each.

    Attributes:
        corners: float32 [T, 3, 3], world.
        normals: float32 [T, 3, 3], of unit length.
        uv: float32 [T, 3, 2], metres along the surface (0..1 for pictures).
        material: int32 [T], places in ``materials``.
        instance: int32 [T], places in the room's things.
        label: uint8 [I], class id of each of the room's I things.
        materials: all that the room uses.
    """

    corners: Array
    normals: Array
    uv: Array
    material: NDArray[np.int32]
    instance: NDArray[np.int32]
    label: NDArray[np.uint8]
    materials: list[Material]


Surface = tuple[Array, Array, Array]
"""Corners [T, 3, 3], normals [T, 3, 3] and uv [T, 3, 2]."""


def build_mesh(room: Room) -> Mesh:
    """Turn every part of every thing into triangles."""
    places: dict[Material, int] = {}
    surfaces: list[Surface] = []
    materials: list[NDArray[np.int32]] = []
    instances: list[NDArray[np.int32]] = []
    for number, thing in enumerate(room.things):
        turn, move = rotation((0.0, 0.0, thing.yaw)), np.array(thing.at, dtype=np.float32)
        for part in thing.parts:
            corners, normals, uv = _part(part)
            surfaces.append((corners @ turn.T + move, normals @ turn.T, uv))
            place = places.setdefault(part.material, len(places))
            materials.append(np.full(len(corners), place, dtype=np.int32))
            instances.append(np.full(len(corners), number, dtype=np.int32))
    corners, normals, uv = (np.concatenate(arrays) for arrays in zip(*surfaces, strict=True))
    return Mesh(
        corners=corners,
        normals=normals,
        uv=uv,
        material=np.concatenate(materials),
        instance=np.concatenate(instances),
        label=np.array([CLASS_IDS[thing.kind] for thing in room.things], dtype=np.uint8),
        materials=list(places),
    )


def rotation(turn: Vec3) -> Array:
    """Rotation about x, then y, then z: [3, 3] for column vectors."""
    (cx, cy, cz), (sx, sy, sz) = (tuple(map(f, turn)) for f in (math.cos, math.sin))
    return np.array(
        [
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ],
        dtype=np.float32,
    )


def _part(part: Part) -> Surface:
    shape = part.shape
    if isinstance(shape, Box):
        surface = _box(shape, part.material)
    elif isinstance(shape, Lathe):
        surface = _lathe(shape)
    elif isinstance(shape, Blob):
        surface = _blob(shape)
    elif isinstance(shape, Leaf):
        surface = _leaf(shape)
    else:
        surface = _drape(shape)
    corners, normals, uv = surface
    at = np.array(part.at, dtype=np.float32)
    if part.material.tile:  # the same material starts somewhere else on every part
        uv = uv + at[:2] + at[2]
    if part.turn == (0.0, 0.0, 0.0):
        return corners + at, normals, uv
    turn = rotation(part.turn)
    return corners @ turn.T + at, normals @ turn.T, uv


@functools.cache
def _cube() -> tuple[Array, Array, NDArray, NDArray]:
    """Corners [12, 3, 3] of the cube +-1, normals, and per triangle the axes of u and v."""
    corners, normals, axes = [], [], []
    for axis in range(3):
        u, v = ((1, 2), (0, 2), (0, 1))[axis]
        for side in (-1.0, 1.0):
            quad = np.zeros((4, 3), dtype=np.float32)
            quad[:, axis] = side
            quad[:, u] = (-1, 1, 1, -1)
            quad[:, v] = (-1, -1, 1, 1)
            normal = np.zeros(3, dtype=np.float32)
            normal[axis] = side
            for triangle in ((0, 1, 2), (0, 2, 3)):
                corners.append(quad[list(triangle)])
                normals.append(np.tile(normal, (3, 1)))
                axes.append((u, v))
    u, v = np.array(axes).T
    return np.array(corners), np.array(normals), u, v


def _box(shape: Box, material: Material) -> Surface:
    cube, normals, u, v = _cube()
    half = np.array(shape.half, dtype=np.float32)
    corners = cube * half
    if material.pattern in _GRAINED:  # the grain runs along the longer side
        u, v = np.where(half[u] > half[v], v, u), np.where(half[u] > half[v], u, v)
    rows = np.arange(12)[:, None]
    across, along = corners[rows, [0, 1, 2], u[:, None]], corners[rows, [0, 1, 2], v[:, None]]
    if material.tile:
        uv = np.stack([across, along], -1)
    else:  # a picture fills the face, its top row up
        uv = np.stack(
            [across / (2 * half[u][:, None]) + 0.5, 0.5 - along / (2 * half[v][:, None])], -1
        )
    if shape.taper != 1.0:
        corners = corners.copy()
        corners[..., :2] *= np.where(corners[..., 2:] > 0, shape.taper, 1.0)
    return corners, normals, uv.astype(np.float32)


def _grid(points: Array, normals: Array, uv: Array) -> Surface:
    """Cut grids [m, n, ...] of points into triangles."""

    def cut(values: Array) -> Array:
        a, b, c, d = values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:]
        both = np.stack([np.stack([a, b, c], 2), np.stack([a, c, d], 2)], 2)
        return both.reshape(-1, 3, values.shape[-1]).astype(np.float32)

    return cut(points), cut(normals), cut(uv)


@functools.cache
def _circle(sides: int) -> Array:
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)


def _lathe(shape: Lathe) -> Surface:
    profile = np.array(shape.profile, dtype=np.float32)
    step = np.diff(profile, axis=0)
    slope = np.stack([step[:, 1], -step[:, 0]], -1)  # outwards in the (radius, height) plane
    slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    before, after = slope.copy(), slope.copy()
    smooth = (slope[:-1] * slope[1:]).sum(1) > 0.75
    middle = slope[:-1] + slope[1:]
    middle /= np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-9)
    after[:-1][smooth], before[1:][smooth] = middle[smooth], middle[smooth]
    circle = _circle(shape.sides)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(step, axis=1))])
    around = np.arange(shape.sides + 1) / shape.sides * 2 * np.pi * profile[:, 0].max()
    parts = []
    for i in range(len(step)):
        ends = profile[i : i + 2]
        points = np.empty((2, len(circle), 3), dtype=np.float32)
        points[..., :2] = ends[:, None, :1] * circle
        points[..., 2] = ends[:, 1:]
        slopes = np.stack([before[i], after[i]])
        normals = np.empty_like(points)
        normals[..., :2] = slopes[:, None, :1] * circle
        normals[..., 2] = slopes[:, 1:]
        uv = np.stack(np.broadcast_arrays(around[None], length[i : i + 2, None]), -1)
        parts.append(_grid(points, normals, uv))
    corners, normals, uv = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return corners, normals, uv


@functools.cache
def _ball() -> tuple[Array, Array]:
    """Unit directions [13, 25, 3] by latitude and longitude, and (longitude, latitude)."""
    up = np.linspace(-np.pi / 2, np.pi / 2, 13)[:, None]
    circle = _circle(24)
    points = np.empty((13, 25, 3), dtype=np.float32)
    points[..., :2] = np.cos(up)[..., None] * circle
    points[..., 2] = np.sin(up)
    angles = np.stack(np.broadcast_arrays(np.linspace(0, 2 * np.pi, 25)[None], up), -1)
    return points, angles.astype(np.float32)


def _blob(shape: Blob) -> Surface:
    sphere, angles = _ball()
    half, power = np.array(shape.half, dtype=np.float32), np.float32(shape.power)
    scale = (np.abs(sphere) ** power).sum(-1, keepdims=True) ** (-1 / power)
    unit = sphere * scale
    normals = np.sign(unit) * np.abs(unit) ** (power - 1) / half
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    points = unit * half
    if power == 2.0:
        uv = angles * np.array([half[:2].mean(), half[2]], dtype=np.float32)
    else:  # seen from the side that it mostly shows
        flat = int(half.argmin())
        u, v = ((1, 2), (0, 2), (0, 1))[flat]
        uv = points[..., [u, v]]
    return _grid(points, normals, uv)


def _leaf(shape: Leaf) -> Surface:
    t = np.linspace(0, 1, 6, dtype=np.float32)
    angle = -shape.bend * t
    step = shape.length / 5
    y = np.concatenate([[0], np.cumsum(np.cos(angle[:-1]))]) * step
    z = np.concatenate([[0], np.cumsum(np.sin(angle[:-1]))]) * step
    wide = shape.width / 2 * np.sin(np.pi * (0.06 + 0.94 * t) ** 0.8)
    side = np.array([-1, 0, 1], dtype=np.float32)
    points = np.empty((6, 3, 3), dtype=np.float32)
    points[..., 0] = wide[:, None] * side
    points[..., 1] = y[:, None]
    points[..., 2] = z[:, None] - 0.25 * wide[:, None] * (1 - np.abs(side))  # a fold in the middle
    normals = np.empty_like(points)
    normals[..., 0] = 0.35 * side
    normals[..., 1] = -np.sin(angle)[:, None]
    normals[..., 2] = np.cos(angle)[:, None]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    along = np.broadcast_to(t[:, None] * shape.length, (6, 3))
    uv = np.stack([points[..., 0] * 0.1 / max(shape.width, 1e-6), along], -1)
    return _grid(points, normals, uv)


def _drape(shape: Drape) -> Surface:
    count = shape.waves * 8 + 1
    t = np.linspace(0, 1, count, dtype=np.float32)
    phase = 2 * np.pi * shape.waves * t
    points = np.empty((2, count, 3), dtype=np.float32)
    points[..., 0] = (2 * t - 1) * shape.half[0]
    points[..., 1] = shape.fold * np.sin(phase)
    points[..., 2] = np.array([[-shape.half[1]], [shape.half[1]]])
    slope = shape.fold * np.cos(phase) * np.pi * shape.waves / shape.half[0]
    normals = np.zeros_like(points)
    normals[..., 0], normals[..., 1] = slope, -1.0
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return _grid(points, normals, points[..., [0, 2]] * np.array([1.6, 1.0], dtype=np.float32))
