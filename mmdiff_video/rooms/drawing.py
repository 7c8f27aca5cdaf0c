"""Draw a room: colour, depth, labels, saliency and surface normals along its walk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.errors import InputError
from mmdiff_video.rooms.irradiance import Irradiance
from mmdiff_video.rooms.mesh import build_mesh
from mmdiff_video.rooms.scene import Lamp, Opening, Room, Sun
from mmdiff_video.rooms.surface_normals import surface_normals
from mmdiff_video.rooms.textures import TexturePool, to_srgb
from mmdiff_video.rooms.tracer import Hits, Tracer
from mmdiff_video.rooms.walk import intrinsics, viewmats

Array = NDArray[Any]

DRAWING = 1
"""Version of the pictures: raise it when the same room gives other pixels, so that stored ones are
not mixed with new ones."""

_CHUNK = 1 << 15
"""Pixels drawn together: enough to hide numpy's overhead, few enough for the caches."""


class RoomFrame(NamedTuple):
    """One frame of a :class:`RoomClip`."""

    rgb: NDArray[np.uint8]
    depth: Array
    labels: NDArray[np.uint8]
    saliency: NDArray[np.bool_]
    normals: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class RoomClip:
    """A drawn walk of F frames, H x W pixels.

    Attributes:
        rgb: uint8 [F, H, W, 3].
        depth: float32 [F, H, W], metres along the optical axis; of the pixel's middle, as are the
            labels and normals, while colours are averaged over the pixel at edges.
        labels: uint8 [F, H, W], class ids: places in :data:`CLASSES`.
        saliency: bool [F, H, W], where the salient thing is seen.
        normals: float32 [F, H, W, 3], of unit length, in the camera's OpenCV axes, on the side of
            the surface that is seen; see :mod:`mmdiff_video.rooms.surface_normals`.
        viewmats: float64 [F, 4, 4] world-to-camera, OpenCV axes, metres.
        Ks: float64 [F, 3, 3], pixels.
        caption: of the room.
    """

    rgb: NDArray[np.uint8]
    depth: Array
    labels: NDArray[np.uint8]
    saliency: NDArray[np.bool_]
    normals: Array
    viewmats: NDArray[np.float64]
    Ks: NDArray[np.float64]
    caption: str

    def frame(self, index: int) -> RoomFrame:
        """Everything that is known of one frame's pixels."""
        maps = (self.rgb, self.depth, self.labels, self.saliency, self.normals)
        return RoomFrame(*(values[index] for values in maps))


def draw_room(
    room: Room,
    frames: int = 17,
    height: int = 128,
    width: int = 128,
    span: tuple[float, float] = (0.0, 1.0),
) -> RoomClip:
    """Draw frames spread evenly along a room's walk; a single frame is taken at the middle.

    Args:
        room: from :func:`make_room`.
        frames: how many, at least 1.
        height, width: in pixels; the field of view belongs to the longer side.
        span: the part of the walk that the frames cover, 0..1.

    Raises:
        InputError: impossible sizes or span, or a machine without Embree.
    """
    if frames < 1 or min(height, width) < 8:
        raise InputError(f"needs at least 1 frame of 8x8, not {frames} of {width}x{height}")
    if not 0 <= span[0] <= span[1] <= 1:
        raise InputError(f"span must be a part of 0..1, not {span[0]:g}..{span[1]:g}")
    time = np.linspace(*span, frames) if frames > 1 else np.array([(span[0] + span[1]) / 2])
    views, K = viewmats(room.walk, time), intrinsics(room.walk, height, width)
    painter = _Painter(room)
    batch = max(_CHUNK // (height * width), 1)
    parts = [
        painter.frames(views[i : i + batch], K, height, width) for i in range(0, frames, batch)
    ]
    rgb, depth, instances, normals = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return RoomClip(
        rgb=rgb,
        depth=depth,
        labels=painter.mesh.label[instances],
        saliency=instances == room.salient,
        normals=normals,
        viewmats=views,
        Ks=np.tile(K, (frames, 1, 1)),
        caption=room.caption,
    )


class _Painter:
    """Everything that the frames of one room share."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.mesh = build_mesh(room)
        self._tracer = Tracer(self.mesh)
        self._textures = TexturePool(self.mesh.materials)
        self._irradiance = Irradiance(room, self.mesh, self._tracer, self._textures.mean)
        self._gloss = np.array([m.gloss for m in self.mesh.materials], dtype=np.float32)
        self._glow = np.array([m.glow for m in self.mesh.materials], dtype=np.float32)
        self._exposure = self._measure()

    def frames(
        self, views: NDArray[np.float64], K: NDArray[np.float64], height: int, width: int
    ) -> tuple[NDArray[np.uint8], Array, NDArray[np.int32], Array]:
        """Draw frames: rgb [n, H, W, 3], depth and instances [n, H, W], normals [n, H, W, 3]."""
        shape = (len(views), height, width)
        pixels = _pixel_centres(height, width)
        origins, directions = _rays_of_all(views, K, [pixels] * len(views))
        hits = self._tracer.first_hits(origins, directions)
        instances = self.mesh.instance[hits.triangle].reshape(shape)
        depth = hits.distance.reshape(shape)
        normals = surface_normals(self.mesh, hits, directions).reshape(len(views), -1, 3)
        normals = (normals @ views[:, :3, :3].mT).astype(np.float32).reshape(*shape, 3)
        edges = np.flatnonzero(_edges(instances, depth))
        frame, pixel = np.divmod(edges, height * width)
        quarters = [
            (pixels[pixel[frame == i]][:, None] + _QUARTERS).reshape(-1, 2)
            for i in range(len(views))
        ]
        more_origins, more_directions = _rays_of_all(views, K, quarters)
        more = self._tracer.first_hits(more_origins, more_directions)
        hits = Hits(*(np.concatenate(pair) for pair in zip(hits, more, strict=True)))
        color = self._colors(
            np.concatenate([origins, more_origins]),
            np.concatenate([directions, more_directions]),
            hits,
            float(K[0, 0]),
        )
        count = len(origins)
        color[edges] = color[count:].reshape(-1, 4, 3).mean(1)
        rgb = (color[:count] * 255 + 0.5).astype(np.uint8).reshape(*shape, 3)
        return rgb, depth, instances, normals

    def _colors(self, origins: Array, directions: Array, hits: Hits, focal: float) -> Array:
        """What the camera sees along rays: sRGB [N, 3] in 0..1."""
        light, glow, _ = self._shade(origins, directions, hits, focal)
        return to_srgb(_tone(light * self._exposure + glow)).astype(np.float32)

    def _shade(
        self, origins: Array, directions: Array, hits: Hits, focal: float
    ) -> tuple[Array, Array, Array]:
        """Give light reflected, given off (already exposed) and incoming: [N, 3] each."""
        mesh, triangle = self.mesh, hits.triangle
        points = origins + directions * hits.distance[:, None]
        u, v = hits.u[:, None], hits.v[:, None]
        a, b, c = (mesh.normals[:, i].take(triangle, 0) for i in range(3))
        normals = a + (b - a) * u + (c - a) * v
        a, b, c = (mesh.uv[:, i].take(triangle, 0) for i in range(3))
        uv = a + (b - a) * u + (c - a) * v
        material = mesh.material[triangle]
        length = np.sqrt(_dot(directions, directions))
        norm = np.sqrt(_dot(normals, normals))
        cosine = _dot(normals, directions) / (norm * length)
        normals *= (np.where(cosine > 0, np.float32(-1), np.float32(1)) / norm)[:, None]
        slant = np.sqrt(np.maximum(np.abs(cosine), 0.1))
        footprint = hits.distance / (focal * slant)
        albedo = self._textures.look_up(material, uv, footprint)
        gloss = self._gloss[material]
        towards_eye = -directions / length[:, None]
        start = points + normals * np.float32(0.004)
        incoming = self._irradiance.look_up(points, normals)
        shine = np.zeros_like(incoming)
        for lamp in self.room.lamps:
            self._lamp(lamp, start, normals, towards_eye, gloss, incoming, shine)
        if self.room.sun is not None:
            for opening in self.room.openings:
                self._sunlight(self.room.sun, opening, start, normals, incoming)
        glow = albedo * self._glow[material][:, None]
        return albedo * incoming + shine, glow, incoming

    def _lamp(
        self, lamp: Lamp, start: Array, normals: Array, towards_eye: Array, gloss: Array,
        incoming: Array, shine: Array,
    ) -> None:  # fmt: skip
        """Add a lamp's direct light; its size softens the shadow's edge."""
        power = np.array(lamp.power, dtype=np.float32)
        step = np.array(lamp.at, dtype=np.float32) - start
        squared = _dot(step, step)
        strength = _dot(normals, step) / (np.sqrt(squared) * (squared + np.float32(0.5)))
        lit = np.flatnonzero(strength * power.max() > 0.015)
        offsets = _TETRAHEDRON * np.float32(lamp.radius) if lamp.radius > 0.1 else np.zeros((1, 3))
        seen = np.zeros(len(lit), dtype=np.float32)
        from_, to = start[lit], step[lit]
        for offset in offsets.astype(np.float32):
            seen += self._tracer.reach(from_, to + offset)
        strength = strength[lit] * seen / np.float32(len(offsets))
        incoming[lit] += strength[:, None] * power
        glossy = (gloss[lit] > 0.1) & (strength > 0)
        shiny = lit[glossy]
        if len(shiny):
            half = step[shiny] / np.sqrt(squared[shiny])[:, None] + towards_eye[shiny]
            norm = np.sqrt(_dot(half, half)) + np.float32(1e-6)
            peak = np.clip(_dot(half, normals[shiny]) / norm, 0, 1) ** 70
            bright = peak * gloss[shiny] * strength[glossy]
            shine[shiny] += 1.2 * bright[:, None] * power

    def _sunlight(
        self, sun: Sun, opening: Opening, start: Array, normals: Array, incoming: Array
    ) -> None:
        """Add the sun where its light comes in through an opening and meets nothing."""
        towards = np.array(sun.towards, dtype=np.float32)
        at, right, up, normal = (
            np.array(v, dtype=np.float32)
            for v in (opening.at, opening.right, opening.up, opening.normal)
        )
        rate = float(towards @ -normal)
        if rate < 0.1:
            return
        far = ((at - start) @ -normal) / rate
        place = start + towards * far[:, None] - at
        inside = (np.abs(place @ right) < right @ right) & (np.abs(place @ up) < up @ up)
        facing = normals @ towards
        lit = np.flatnonzero(inside & (facing > 0) & (far > 0))
        if len(lit):
            seen = self._tracer.reach(start[lit], towards * (far[lit] * 0.98)[:, None])
            power = np.array(sun.power, dtype=np.float32)
            incoming[lit] += (facing[lit] * seen)[:, None] * power

    def _measure(self) -> float:
        """Choose the exposure from a few rays along the walk: the same for every size and span."""
        side = 24
        K = intrinsics(self.room.walk, side, side)
        views = viewmats(self.room.walk, np.array([0.1, 0.5, 0.9]))
        origins, directions = _rays_of_all(views, K, [_pixel_centres(side, side)] * len(views))
        hits = self._tracer.first_hits(origins, directions)
        light, _, incoming = self._shade(origins, directions, hits, float(K[0, 0]))
        dark = self._glow[self.mesh.material[hits.triangle]] == 0
        star = self.mesh.instance[hits.triangle] == self.room.salient
        weight = np.where(star, 3.0, 1.0) * dark
        seen, falling = (
            np.exp((np.log(v.mean(1) + 0.01) * weight).sum() / weight.sum())
            for v in (light, incoming)
        )
        return float(_MIDDLE / (seen**0.6 * (0.42 * falling) ** 0.4))


_MIDDLE = 0.27
_QUARTERS = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])
_TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float32)


def _dot(a: Array, b: Array) -> Array:
    """Scalar products of vectors [N, 3]."""
    return np.einsum("ij,ij->i", a, b)


def _pixel_centres(height: int, width: int) -> NDArray[np.float64]:
    """Centres (x, y) of all pixels, row by row: [H * W, 2]."""
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([columns, rows], -1).reshape(-1, 2)


def _rays_of_all(
    views: NDArray[np.float64], K: NDArray[np.float64], pixels: Sequence[NDArray[np.float64]]
) -> tuple[Array, Array]:
    """Origins and directions, [N, 3] each, of the rays of every view, one view after the other."""
    rays = [_rays(view, K, own) for view, own in zip(views, pixels, strict=True)]
    origins, directions = (np.concatenate(arrays) for arrays in zip(*rays, strict=True))
    return origins, directions


def _rays(
    view: NDArray[np.float64], K: NDArray[np.float64], pixels: NDArray[np.float64]
) -> tuple[Array, Array]:
    """Rays through pixel positions [N, 2]; the step along the optical axis is 1, so t is depth."""
    local = np.empty((len(pixels), 3))
    local[:, :2] = (pixels - K[:2, 2]) / (K[0, 0], K[1, 1])
    local[:, 2] = 1
    centre = -view[:3, :3].T @ view[:3, 3]
    directions = (local @ view[:3, :3]).astype(np.float32)
    return np.tile(centre.astype(np.float32), (len(pixels), 1)), directions


def _edges(instances: NDArray, depth: Array) -> NDArray[np.bool_]:
    """Pixels [n, H, W] next to another instance or to a bend or jump in depth."""
    out = np.zeros(depth.shape, dtype=bool)
    near = 1 / depth  # linear in the picture on every plane
    for axis in (1, 2):
        n = np.moveaxis(near, axis, 0)
        i = np.moveaxis(instances, axis, 0)
        o = np.moveaxis(out, axis, 0)
        differs = i[1:] != i[:-1]
        o[1:] |= differs
        o[:-1] |= differs
        o[1:-1] |= np.abs(n[2:] - 2 * n[1:-1] + n[:-2]) > 0.02 * n[1:-1]
    return out


def _tone(light: Array) -> Array:
    """Leave dark and middle tones alone and bend what is bright towards 1."""
    knee = np.float32(0.55)
    over = np.maximum(light - knee, 0)
    return np.where(light < knee, light, knee + (1 - knee) * over / (over + (1 - knee)))
