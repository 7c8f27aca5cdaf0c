"""Rays against a room's triangles, by Embree."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.errors import InputError
from mmdiff_video.rooms.mesh import Mesh

Array = NDArray[Any]

_NUDGES = 8


class Hits(NamedTuple):
    """Where rays end: the triangle, how far along the ray, and where in the triangle."""

    triangle: NDArray[np.int32]
    distance: Array
    u: Array
    v: Array


class Tracer:
    """Two ray structures: all triangles, and those that cast shadows (what glows does not)."""

    def __init__(self, mesh: Mesh) -> None:
        rtcore, construction = _embree()
        glow = np.array([material.glow > 0 for material in mesh.materials])
        self._all, self._solid = rtcore.EmbreeScene(), rtcore.EmbreeScene()
        # Embree copies the corners and keeps them with the scene.
        construction.TriangleMesh(self._all, mesh.corners)
        construction.TriangleMesh(self._solid, mesh.corners[~glow[mesh.material]])

    def first_hits(self, origins: Array, directions: Array) -> Hits:
        """Follow rays to the first surface; distances are in lengths of ``directions``."""
        hits = self._first(origins, directions)
        for _ in range(_NUDGES):  # rays may slip through where two triangles meet
            lost = np.flatnonzero(hits.triangle < 0)
            if not len(lost):
                return hits
            directions = directions * np.array([1.0003, 0.9998, 1.0002], dtype=np.float32)
            again = self._first(origins[lost], directions[lost])
            for values, new in zip(hits, again, strict=True):
                values[lost] = new
        raise AssertionError("rooms are closed, but a ray left one")

    def _first(self, origins: Array, directions: Array) -> Hits:
        found = self._all.run(origins, directions, query="INTERSECT", output=1)
        return Hits(found["primID"], found["tfar"], found["u"], found["v"])

    def reach(self, origins: Array, steps: Array) -> NDArray[np.bool_]:
        """Whether nothing stands between each origin and origin + step."""
        limit = np.ones(len(origins), dtype=np.float32)
        return self._solid.run(origins, steps, dists=limit, query="OCCLUDED") != 0


def _embree() -> tuple[Any, Any]:
    try:
        from embreex import mesh_construction, rtcore_scene
    except ImportError:
        raise InputError(
            "drawing rooms needs embreex, which has wheels for Linux x86-64, macOS and Windows: "
            "`pip install embreex`; elsewhere, make the data set on such a machine and copy it"
        ) from None
    return rtcore_scene, mesh_construction
