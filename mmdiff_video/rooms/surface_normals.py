"""Normals of the surfaces that rays meet.

A flat triangle (one normal at its three corners) has that of its plane. The others stand for a
curved surface, which is what the picture shows: there the corners' normals are interpolated, as
light is, so that the facets of a globe do not show.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.mesh import Mesh
from mmdiff_video.rooms.tracer import Hits

Array = NDArray[Any]

_LEAST_FACING = 1e-3
"""Cosine to the ray that every normal has at least. At its outline, an interpolated normal of a
coarse curved surface may point away from the eye; it is bent back as far as this."""


def surface_normals(mesh: Mesh, hits: Hits, directions: Array) -> Array:
    """Normals where rays end, on the side that the rays come from.

    Args:
        mesh: the room.
        hits: of N rays.
        directions: float32 [N, 3] of the rays, in the world, of any length.

    Returns:
        float32 [N, 3] in the world, of unit length; the scalar product with the ray is negative.
    """
    a, b, c = (mesh.corners[:, i].take(hits.triangle, 0) for i in range(3))
    plane = _unit(np.cross(b - a, c - a))
    a, b, c = (mesh.normals[:, i].take(hits.triangle, 0) for i in range(3))
    u, v = hits.u[:, None], hits.v[:, None]
    smooth = _unit(a + (b - a) * u + (c - a) * v)
    rays = _unit(directions)
    # the winding of the triangles says nothing; both are turned to the side of the eye, the
    # interpolated one by its plane: at an outline it may itself be past the horizon
    smooth *= np.where(_dot(smooth, plane) * _dot(plane, rays) > 0, -1, 1)[:, None]
    plane *= np.where(_dot(plane, rays) > 0, -1, 1)[:, None]
    flat = ((np.abs(b - a) + np.abs(c - a)).max(1) < 1e-5)[:, None]
    normals = np.where(flat, plane, smooth)
    beyond = np.maximum(_dot(normals, rays) + _LEAST_FACING, 0)
    return _unit(normals - beyond[:, None] * rays).astype(np.float32)


def _dot(a: Array, b: Array) -> Array:
    return np.einsum("ij,ij->i", a, b)


def _unit(vectors: Array) -> Array:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
