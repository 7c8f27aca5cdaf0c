"""Soft light: sky through windows and what walls and things pass on, kept on a lattice.

Soft light changes slowly over a surface, so it is gathered with many rays at the corners of a
lattice, only where something is seen, and blended between them. Each corner keeps six values, one
per axis direction, blended by the squared parts of the surface's normal (an ambient cube).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.mesh import Mesh
from mmdiff_video.rooms.scene import Opening, Room
from mmdiff_video.rooms.tracer import Tracer

Array = NDArray[Any]

_CELL = 0.16
_RAYS = 32
_LIFT = 0.03
_INSET = 0.005  # from the walls, lest rays run in their plane
_PANE = (2, 3)


class Irradiance:
    """The soft light of one room; corners are filled when they are first asked for."""

    def __init__(self, room: Room, mesh: Mesh, tracer: Tracer, albedo: Array) -> None:
        self._mesh, self._tracer, self._albedo = mesh, tracer, albedo
        self._openings = room.openings
        self._ambient = np.array(room.ambient, dtype=np.float32)
        self._size = np.array(room.size)
        self._origin = np.full(3, -1.5 * _CELL, dtype=np.float32)
        self._shape = tuple(int(np.ceil(side / _CELL)) + 5 for side in room.size)
        corners = int(np.prod(self._shape))
        self._value = np.zeros((6, corners, 3), dtype=np.float32)
        self._known = np.zeros((6, corners), dtype=bool)
        self._glow = np.array([material.glow > 0 for material in mesh.materials])

    def look_up(self, points: Array, normals: Array) -> Array:
        """Give the light that falls on surface points: [N, 3] for points and normals [N, 3]."""
        out = np.zeros_like(points)
        total = np.zeros(len(points), dtype=np.float32)
        cell = (points - self._origin) / np.float32(_CELL)
        base = np.floor(cell)
        fraction = cell - base
        base = base.astype(np.int32)
        for face in range(6):
            axis, sign = face // 2, 1 - 2 * (face % 2)
            facing = np.flatnonzero(normals[:, axis] * sign > 0.12)
            if len(facing):
                weight = normals[facing, axis] ** 2
                total[facing] += weight
                lifted = points[facing] + normals[facing] * np.float32(_LIFT)
                out[facing] += weight[:, None] * self._blend(
                    face, lifted, base[facing], fraction[facing]
                )
        out /= np.maximum(total, 0.1)[:, None]
        return out

    def _blend(self, face: int, points: Array, base: NDArray, fraction: Array) -> Array:
        _, ny, nz = self._shape
        start = (base[:, 0] * ny + base[:, 1]) * nz + base[:, 2]
        steps = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        corners = [start + ((i * ny + j) * nz + k) for i, j, k in steps]
        sides = (1 - fraction, fraction)
        weights = [sides[i][:, 0] * sides[j][:, 1] * sides[k][:, 2] for i, j, k in steps]
        self._fill(face, points, corners, weights)
        value = self._value[face]
        out = np.zeros((len(points), 3), dtype=np.float32)
        for corner, weight in zip(corners, weights, strict=True):
            out += value.take(corner, 0) * weight[:, None]
        return out

    def _fill(self, face: int, points: Array, corners: list[NDArray], weights: list[Array]) -> None:
        """Gather light for the corners that are new, each at the mean of the points round it."""
        known = self._known[face]
        fresh = [~known[corner] for corner in corners]
        if not any(mask.any() for mask in fresh):
            return
        chosen = np.concatenate([c[mask] for c, mask in zip(corners, fresh, strict=True)])
        weight = np.concatenate([w[mask] for w, mask in zip(weights, fresh, strict=True)]) + 1e-4
        place = np.concatenate([points[mask] for mask in fresh])
        known[chosen] = True
        names, number = np.unique(chosen, return_inverse=True)
        total = np.bincount(number, weight)
        mean = np.stack([np.bincount(number, weight * place[:, a]) / total for a in range(3)], -1)
        inside = np.clip(mean, _INSET, self._size - _INSET).astype(np.float32)
        self._value[face, names] = self._gather(face, inside)

    def _gather(self, face: int, points: Array) -> Array:
        return self._bounced(face, points) + self._sky(face, points)

    def _bounced(self, face: int, points: Array) -> Array:
        """Light from all round, tinted by what is there and dimmed where that is close."""
        rays = _hemisphere(face)
        origins = np.repeat(points, _RAYS, 0)
        hits = self._tracer.first_hits(origins, np.tile(rays, (len(points), 1)))
        material = self._mesh.material[hits.triangle]
        color = np.where(self._glow[material][:, None], 0.9, self._albedo[material])
        light = (0.3 + 0.85 * color) * (hits.distance / (hits.distance + 0.45))[:, None]
        return 1.25 * self._ambient * light.reshape(len(points), _RAYS, 3).mean(1)

    def _sky(self, face: int, points: Array) -> Array:
        axis, sign = face // 2, 1 - 2 * (face % 2)
        out = np.zeros_like(points)
        for opening in self._openings:
            samples, area = _samples(opening)
            normal = np.array(opening.normal, dtype=np.float32)
            step = samples[None] - points[:, None]  # [N, S, 3]
            squared = np.einsum("nsi,nsi->ns", step, step)
            cosine = np.clip(step[..., axis] * sign, 0, None) * np.clip(-step @ normal, 0, None)
            share = cosine / (np.pi * squared**2 + 0.02) * (area / len(samples))
            lit = np.flatnonzero(share.max(1) > 1e-4)
            if len(lit):
                count = len(samples)
                seen = self._tracer.reach(
                    np.repeat(points[lit], count, 0), step[lit].reshape(-1, 3)
                ).reshape(-1, count)
                total = (share[lit] * seen).sum(1)
                out[lit] += total[:, None] * np.array(opening.power, dtype=np.float32)
        return out


def _hemisphere(face: int) -> Array:
    """Directions spread over a hemisphere in proportion to the cosine: [R, 3]."""
    i = np.arange(_RAYS)
    r = np.sqrt((i + 0.5) / _RAYS)
    angle = i * 2.399963
    local = np.stack([r * np.cos(angle), r * np.sin(angle), np.sqrt(1 - r**2)], -1)
    axis, sign = face // 2, 1 - 2 * (face % 2)
    out = np.empty_like(local)
    out[:, axis] = sign * local[:, 2]
    out[:, (axis + 1) % 3], out[:, (axis + 2) % 3] = local[:, 0], local[:, 1]
    return out.astype(np.float32)


def _samples(opening: Opening) -> tuple[Array, float]:
    """Give points spread over an opening, and its area."""
    at, right, up = (np.array(v, dtype=np.float32) for v in (opening.at, opening.right, opening.up))
    columns, rows = _PANE
    points = [
        at + right * (2 * (i + 0.5) / columns - 1) + up * (2 * (j + 0.5) / rows - 1)
        for i in range(columns)
        for j in range(rows)
    ]
    return np.array(points, dtype=np.float32), float(4 * np.linalg.norm(right) * np.linalg.norm(up))
