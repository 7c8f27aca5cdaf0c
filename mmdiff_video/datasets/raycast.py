"""A small ray caster: textured spheres, boxes and cylinders in a room, lit by a lamp.

World axes are OpenCV's (x right, y *down*, z forward), metres, floor at y = 0, so that up is
negative. Colours are linear in [0, 1] until the picture is written. Surfaces are matt: a point
looks the same from everywhere, which is what photometric multi-view methods assume.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
_NOISE_SIZE = 256  # cells of the periodic noise tile
_NOISE_METRES = 3.0  # its side
_ROOM = -1  # identifies the room among the hit shapes


def _vector(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


# Here and below, three columns are combined by hand: numpy reduces short axes slowly.
def _dot(a: Array, b: Array) -> Array:
    """Row-wise dot product of [R, k] and [R, k]."""
    return np.einsum("ij,ij->i", a, b)


# --- textures ----------------------------------------------------------------------------------


@cache
def _noise_tile() -> Array:
    """Periodic cloud noise, zero mean, mostly within -1..1; the same for everybody."""
    rng = np.random.default_rng(7)
    frequency = np.fft.fftfreq(_NOISE_SIZE, 1 / _NOISE_SIZE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    amplitude = np.where(radius > 1.5, np.maximum(radius, 1) ** -1.3, 0)
    tile = np.fft.ifft2(np.fft.fft2(rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE))) * amplitude)
    return (tile.real / (2 * tile.real.std())).astype(np.float32)


def _noise(u: Array, v: Array) -> Array:
    """Bilinear lookup of the noise tile at surface coordinates in metres."""
    x, y = u * (_NOISE_SIZE / _NOISE_METRES), v * (_NOISE_SIZE / _NOISE_METRES)
    column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    fx, fy = x - column, y - row
    c0, c1 = column % _NOISE_SIZE, (column + 1) % _NOISE_SIZE
    r0, r1 = row % _NOISE_SIZE, (row + 1) % _NOISE_SIZE
    tile = _noise_tile()
    top = tile[r0, c0] * (1 - fx) + tile[r0, c1] * fx
    bottom = tile[r1, c0] * (1 - fx) + tile[r1, c1] * fx
    return top * (1 - fy) + bottom * fy


@dataclass(frozen=True)
class Texture:
    """Two colours in a pattern, with cloudy variation over it.

    Attributes:
        pattern: ``plain``, ``checker``, ``stripes``, ``bricks``, ``planks`` or ``dots``.
        first, second: linear RGB; the second is the pattern's lines, spots or other squares.
        size: metres of one repeat.
        grain: strength of the variation.
        shift: offsets the variation, so that no two surfaces look alike.
    """

    pattern: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    size: float = 0.5
    grain: float = 0.35
    shift: float = 0.0

    def colour(self, u: Array, v: Array) -> Array:
        """Linear RGB [R, 3] at surface coordinates u, v [R] in metres."""
        mask, cell = _PATTERNS[self.pattern](u / self.size, v / self.size)
        first, second = _vector(*self.first), _vector(*self.second)
        colour = first + (second - first) * mask[:, None].astype(np.float32)
        variation = self.grain * _noise(u + self.shift, v - self.shift) + 0.25 * cell
        return np.clip(colour * (1 + variation)[:, None], 0, 1).astype(np.float32)


def _cell_shade(i: Array, j: Array) -> Array:
    """Brightness in -0.5..0.5 of brick or plank (i, j), looking random."""
    wave = np.sin(i * 12.9898 + j * 78.233).astype(np.float32) * 43758.547
    return wave - np.floor(wave) - 0.5


def _plain(u: Array, v: Array) -> tuple[Array, Array]:
    zero = np.zeros_like(u)
    return zero, zero


def _checker(u: Array, v: Array) -> tuple[Array, Array]:
    return (np.floor(2 * u) + np.floor(2 * v)) % 2, np.zeros_like(u)


def _stripes(u: Array, v: Array) -> tuple[Array, Array]:
    return (u % 1 > 0.6).astype(np.float32), np.zeros_like(u)


def _dots(u: Array, v: Array) -> tuple[Array, Array]:
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.28).astype(np.float32), np.zeros_like(u)


def _bricks(u: Array, v: Array) -> tuple[Array, Array]:
    row = np.floor(2 * v)
    shifted = u + 0.5 * (row % 2)
    mortar = ((2 * v) % 1 < 0.14) | (shifted % 1 < 0.07)
    return mortar.astype(np.float32), _cell_shade(np.floor(shifted), row) * ~mortar


def _planks(u: Array, v: Array) -> tuple[Array, Array]:
    column = np.floor(3 * u)
    along = v / 3 + 0.37 * column
    gap = ((3 * u) % 1 < 0.08) | (along % 1 < 0.01)
    return gap.astype(np.float32), 1.4 * _cell_shade(column, np.floor(along)) * ~gap


_PATTERNS = {
    "plain": _plain,
    "checker": _checker,
    "stripes": _stripes,
    "dots": _dots,
    "bricks": _bricks,
    "planks": _planks,
}
PATTERNS = tuple(_PATTERNS)


# --- shapes ------------------------------------------------------------------------------------


class Shape(ABC):
    """A convex solid seen from outside. ``centre`` [3] and ``radius`` bound it."""

    centre: Array
    radius: float
    texture: Texture

    @abstractmethod
    def hit(self, origin: Array, rays: Array) -> Array:
        """Ray parameter [R] of the first hit of origin [3] + t * rays [R, 3]; inf where none."""

    @abstractmethod
    def surface(self, points: Array) -> tuple[Array, Array, Array]:
        """Outward unit normals [R, 3] and surface coordinates u, v [R] of points on it."""


class Sphere(Shape):
    """A ball."""

    def __init__(self, centre: Array, radius: float, texture: Texture) -> None:
        self.centre, self.radius, self.texture = centre, radius, texture

    def hit(self, origin: Array, rays: Array) -> Array:
        """See :class:`Shape`."""
        return _quadratic(rays, origin - self.centre, self.radius)[0]

    def surface(self, points: Array) -> tuple[Array, Array, Array]:
        """See :class:`Shape`."""
        normals = (points - self.centre) / self.radius
        u = np.arctan2(normals[:, 0], normals[:, 2]) * self.radius
        v = np.arcsin(np.clip(normals[:, 1], -1, 1)) * self.radius
        return normals, u, v


class Box(Shape):
    """A box with half sizes ``half`` [3], turned by ``yaw`` radians about the vertical."""

    def __init__(self, centre: Array, half: Array, texture: Texture, yaw: float = 0.0) -> None:
        self.centre, self.half, self.texture = centre, half, texture
        self.radius = float(np.linalg.norm(half))
        cos, sin = np.cos(yaw), np.sin(yaw)
        self._local_from_world = np.array(
            [[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], dtype=np.float32
        )

    def hit(self, origin: Array, rays: Array) -> Array:
        """See :class:`Shape`."""
        local_origin = self._local_from_world @ (origin - self.centre)
        near, far = _slabs(local_origin, rays @ self._local_from_world.T, self.half)
        enter = np.maximum(np.maximum(near[:, 0], near[:, 1]), near[:, 2])
        leave = np.minimum(np.minimum(far[:, 0], far[:, 1]), far[:, 2])
        return np.where((enter < leave) & (enter > 0), enter, np.inf)

    def surface(self, points: Array) -> tuple[Array, Array, Array]:
        """See :class:`Shape`."""
        local = (points - self.centre) @ self._local_from_world.T
        normals, u, v = _box_faces(local, self.half)
        return normals @ self._local_from_world, u, v


class Cylinder(Shape):
    """An upright cylinder of radius ``width`` and half height ``half``."""

    def __init__(self, centre: Array, width: float, half: float, texture: Texture) -> None:
        self.centre, self.width, self.half, self.texture = centre, width, half, texture
        self.radius = float(np.hypot(width, half))

    def hit(self, origin: Array, rays: Array) -> Array:
        """See :class:`Shape`."""
        offset = origin - self.centre
        side_near, side_far = _quadratic(rays[:, ::2], offset[::2], self.width)
        cap_near, cap_far = _slabs(offset[1:2], rays[:, 1:2], _vector(self.half))
        enter = np.maximum(side_near, cap_near[:, 0])
        leave = np.minimum(side_far, cap_far[:, 0])
        return np.where((enter < leave) & (enter > 0), enter, np.inf)

    def surface(self, points: Array) -> tuple[Array, Array, Array]:
        """See :class:`Shape`."""
        local = points - self.centre
        cap = np.abs(local[:, 1]) > self.half * (1 - 1e-4)
        normals = np.zeros_like(local)
        normals[:, ::2] = local[:, ::2] / self.width
        normals[cap] = 0
        normals[cap, 1] = np.sign(local[cap, 1])
        u = np.where(cap, local[:, 0], np.arctan2(local[:, 0], local[:, 2]) * self.width)
        v = np.where(cap, local[:, 2], local[:, 1])
        return normals, u, v


def _quadratic(rays: Array, offset: Array, radius: float) -> tuple[Array, Array]:
    """Where rays enter and leave a ball (3 columns) or endless cylinder (2); inf, -inf if never."""
    a = _dot(rays, rays)
    b = rays @ offset
    root = b * b - a * (offset @ offset - radius * radius)
    missed = root <= 0
    root = np.sqrt(np.where(missed, 0, root))
    enter, leave = (-b - root) / a, (-b + root) / a
    behind = missed | (leave <= 0)
    return np.where(behind, np.inf, enter), np.where(behind, -np.inf, leave)


def _slabs(origin: Array, rays: Array, half: Array) -> tuple[Array, Array]:
    """Where rays enter and leave the slabs ``|x_k| < half_k``, per axis."""
    safe = np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    a, b = (-half - origin) / safe, (half - origin) / safe
    return np.minimum(a, b), np.maximum(a, b)


def _box_faces(local: Array, half: Array) -> tuple[Array, Array, Array]:
    axis = np.argmax(np.abs(local) / half, axis=1)
    rows = np.arange(len(local))
    normals = np.zeros_like(local)
    normals[rows, axis] = np.sign(local[rows, axis])
    # Upright faces: u runs along the wall, v down it. Level faces: u = x, v = z.
    u = np.where(axis == 0, local[:, 2], local[:, 0])
    v = np.where(axis == 1, local[:, 2], local[:, 1])
    return normals, u, v


# --- scenes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A closed room and what stands in it.

    Attributes:
        centre, half: the room, [3] each.
        floor, ceiling, walls: its textures; the walls are -x, +x, -z, +z.
        shapes: the solids.
        lamp: position of the light that casts shadows, [3].
    """

    centre: Array
    half: Array
    floor: Texture
    ceiling: Texture
    walls: tuple[Texture, Texture, Texture, Texture]
    shapes: tuple[Shape, ...]
    lamp: Array

    def cast(self, origin: Array, rays: Array) -> tuple[Array, NDArray[np.int32]]:
        """First hit of rays [R, 3] from one origin [3]: parameter t [R], and shape index [R].

        The index is -1 for the room itself. The room is closed, so every ray hits.
        """
        _, leave = _slabs(origin - self.centre, rays, self.half)
        nearest = np.minimum(np.minimum(leave[:, 0], leave[:, 1]), leave[:, 2])
        which = np.full(len(rays), _ROOM, dtype=np.int32)
        unit = rays / np.sqrt(_dot(rays, rays))[:, None]
        for index, shape in enumerate(self.shapes):
            towards = shape.centre - origin
            distance = float(np.linalg.norm(towards))
            if distance <= shape.radius:
                candidates = np.arange(len(rays))
            else:  # only the rays inside the cone around the bounding sphere
                cosine = np.sqrt(1 - (shape.radius / distance) ** 2)
                candidates = np.nonzero(unit @ (towards / distance) >= cosine)[0]
            t = shape.hit(origin, rays[candidates])
            closer = t < nearest[candidates]
            nearest[candidates[closer]] = t[closer]
            which[candidates[closer]] = index
        return nearest, which

    def radiance(self, points: Array, which: NDArray[np.int32]) -> Array:
        """Linear RGB [R, 3] of surface points [R, 3] on the given shapes [R]."""
        albedo, normals = np.zeros_like(points), np.zeros_like(points)
        for index in np.unique(which):
            chosen = which == index
            albedo[chosen], normals[chosen] = self._look(int(index), points[chosen])
        from_lamp = points - self.lamp
        distance = np.sqrt(_dot(from_lamp, from_lamp))
        blocked, _ = self.cast(self.lamp, from_lamp)
        visible = blocked > 0.995  # t = 1 is the point itself
        falling = np.maximum(-_dot(normals, from_lamp) / distance, 0) * visible
        direct = 1.5 * falling / (1 + 0.06 * distance * distance)
        sky = 0.34 - 0.10 * normals[:, 1] + 0.05 * normals[:, 0]  # from all around, mostly above
        return albedo * (direct + sky)[:, None]

    def _look(self, index: int, points: Array) -> tuple[Array, Array]:
        """Albedo and normals of points on one shape, or on the room."""
        if index != _ROOM:
            shape = self.shapes[index]
            normals, u, v = shape.surface(points)
            return shape.texture.colour(u, v), normals
        normals, u, v = _box_faces(points - self.centre, self.half)
        albedo = np.zeros_like(points)
        west, east, south, north = self.walls
        faces = ((0, -1, west), (0, 1, east), (2, -1, south), (2, 1, north))
        for axis, sign, texture in (*faces, (1, 1, self.floor), (1, -1, self.ceiling)):
            face = normals[:, axis] == sign
            albedo[face] = texture.colour(u[face], v[face])
        return albedo, -normals


def _pixel_rays(viewmat: Array, K: Array, width: int, height: int) -> tuple[Array, Array]:
    """Camera centre [3] and rays [H * W, 3] whose camera z is 1, so that t is depth."""
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    x = (np.arange(width, dtype=np.float32) + 0.5 - K[0, 2]) / K[0, 0]
    y = (np.arange(height, dtype=np.float32) + 0.5 - K[1, 2]) / K[1, 1]
    in_camera = np.stack([*np.meshgrid(x, y), np.ones((height, width), np.float32)], -1)
    rays = in_camera.reshape(-1, 3).astype(np.float32) @ rotation.astype(np.float32)
    return -(rotation.T @ translation).astype(np.float32), rays


def render(
    scene: Scene, viewmat: Array, K: Array, width: int, height: int, *, samples: int = 2
) -> NDArray[np.uint8]:
    """Draw one view: uint8 sRGB [H, W, 3].

    Args:
        scene: what to draw.
        viewmat: [4, 4] world-to-camera.
        K: [3, 3] in pixels, principal point from the top-left corner.
        width, height: in pixels.
        samples: samples x samples rays a pixel.
    """
    scale = np.diag(_vector(samples, samples, 1))
    origin, rays = _pixel_rays(viewmat, scale @ K, width * samples, height * samples)
    t, which = scene.cast(origin, rays)
    colours = scene.radiance(origin + t[:, None] * rays, which)
    # Each sample is clipped before averaging, or bright edges would alias.
    colours = np.clip(colours, 0, 1).reshape(height, samples, width, samples, 3)
    mean = sum(colours[:, i, :, j] for i in range(samples) for j in range(samples)) / samples**2
    return (mean ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def render_depth(scene: Scene, viewmat: Array, K: Array, width: int, height: int) -> Array:
    """Depth along the optical axis at the pixel centres: float32 [H, W], metres."""
    origin, rays = _pixel_rays(viewmat, K, width, height)
    return scene.cast(origin, rays)[0].reshape(height, width).astype(np.float32)
