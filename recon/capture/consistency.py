"""Whether poses agree with what the pictures show.

A point that two pictures share lies, in one, on the epipolar line of where it lies in the other.
Poses that break this are wrong, and the commonest ways of being wrong are known: axes of OpenGL
taken for OpenCV's, camera-to-world taken for world-to-camera.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.cameras import compose, invert_rigid

_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))

AGREES = 2.0
"""Pixels: the median distance from epipolar lines up to which poses count as right."""

_CLEARLY_BETTER = 3.0
"""How many times closer another reading of the poses must be to be named."""

_LEAST_MATCHES = 30


@dataclass(frozen=True)
class Convention:
    """How a kind of file holds poses, and words for files that hold them in another way.

    Attributes:
        inverse: for one whose poses, as they were read, are those of the cameras in the world.
        flipped: for one whose cameras, as they were read, have y up and z backwards.
        both: for one with both of these.
    """

    inverse: str
    flipped: str
    both: str


WORLD_TO_CAMERA = Convention(
    inverse="camera-to-world, where world-to-camera is expected",
    flipped="with the axes of OpenGL (y up, z backwards), where OpenCV's are expected",
    both="camera-to-world with the axes of OpenGL, where world-to-camera with OpenCV's is expected",
)
"""COLMAP's and RealEstate10K's files: world-to-camera, OpenCV axes."""

TRANSFORMS = Convention(
    inverse="world-to-camera, where camera-to-world with the axes of OpenGL is expected",
    flipped="with the axes of OpenCV (y down, z forward), where OpenGL's are expected",
    both="world-to-camera with the axes of OpenGL, where camera-to-world is expected",
)
"""A transforms.json: camera-to-world, OpenGL axes."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Points that two pictures share.

    Attributes:
        first, second: numbers of the pictures.
        rays: [2, M, 2] float64, x / z and y / z of each point in the axes of either camera.
    """

    first: int
    second: int
    rays: Tensor


@dataclass(frozen=True)
class Verdict:
    """What the pictures say of poses.

    Attributes:
        distance: of matches from their epipolar lines, the median in pixels; None: too few matches
            to tell.
        in_front: share of the matches that lie in front of both cameras.
        instead: how the poses must be read for the pictures to agree; empty where they agree as
            they are, or by no known reading.
    """

    distance: float | None
    in_front: float
    instead: str = ""

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against the poses."""
        return self.distance is None or (self.distance <= AGREES and self.in_front > 0.5)


def check_poses(
    viewmats: Tensor,
    matches: Sequence[Matches],
    focal: float,
    convention: Convention = WORLD_TO_CAMERA,
) -> Verdict:
    """Ask the pictures whether poses are right.

    Args:
        viewmats: [V, 4, 4] float64, as they were read.
        matches: of some pairs of the V pictures.
        focal: length in pixels, which turns distances on rays into pixels.
        convention: of the file that they were read from, for the words of the verdict.
    """
    if sum(m.rays.shape[1] for m in matches) < _LEAST_MATCHES:
        return Verdict(None, 1.0)
    readings = _readings(viewmats, convention)
    found = {name: _agreement(read, matches, focal) for name, read in readings.items()}
    distance, in_front = found.pop("")
    verdict = Verdict(distance, in_front)
    if verdict.agrees:
        return verdict
    name, (best, front) = min(found.items(), key=lambda item: item[1][0] / max(item[1][1], 0.01))
    better = best <= AGREES and front > 0.5
    if better and (in_front <= 0.5 or best * _CLEARLY_BETTER < distance):
        return Verdict(distance, in_front, name)
    return verdict


def _readings(viewmats: Tensor, convention: Convention) -> dict[str, Tensor]:
    """Ways to read poses: name -> what the true viewmats are if it is right; "" as they are."""
    inverse = invert_rigid(viewmats)
    return {
        "": viewmats,
        convention.inverse: inverse,
        convention.flipped: compose(_OPENGL, viewmats),
        convention.both: compose(_OPENGL, inverse),
    }


def _agreement(viewmats: Tensor, matches: Sequence[Matches], focal: float) -> tuple[float, float]:
    """Median distance in pixels, and share of points in front of both cameras."""
    distances, in_front = [], []
    for match in matches:
        relative = compose(viewmats[match.second], invert_rigid(viewmats[match.first]))
        distances.append(_epipolar_distance(relative, match.rays) * focal)
        in_front.append(_is_in_front(relative, match.rays))
    return float(torch.cat(distances).median()), float(torch.cat(in_front).double().mean())


def _epipolar_distance(relative: Tensor, rays: Tensor) -> Tensor:
    """Distance of each match [M] from its epipolar lines, Sampson's, on the plane z = 1."""
    x, y, z = relative[:3, 3]
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    essential = cross @ relative[:3, :3]
    a, b = (torch.nn.functional.pad(r, (0, 1), value=1.0) for r in rays)
    line_b, line_a = a @ essential.T, b @ essential
    product = (b * line_b).sum(-1)
    size = line_b[:, :2].square().sum(-1) + line_a[:, :2].square().sum(-1)
    return product.abs() / size.clamp(min=1e-30).sqrt()


def _is_in_front(relative: Tensor, rays: Tensor) -> Tensor:
    """Whether the midpoint of the two rays is in front of both cameras, [M]."""
    a = torch.nn.functional.pad(rays[0], (0, 1), value=1.0) @ relative[:3, :3].T
    b = torch.nn.functional.pad(rays[1], (0, 1), value=1.0)
    t = relative[:3, 3].expand_as(a)
    # depth_a * a + t = depth_b * b, by least squares
    aa, bb, ab = (a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1)
    at, bt = (a * t).sum(-1), (b * t).sum(-1)
    determinant = (aa * bb - ab * ab).clamp(min=1e-12)
    depth_a = (ab * bt - bb * at) / determinant
    depth_b = (aa * bt - ab * at) / determinant
    return (depth_a > 0) & (depth_b > 0)
