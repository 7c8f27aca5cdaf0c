"""Given poses against the pictures: points by them, matches to judge them, and better ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.cameras import invert_rigid
from recon.capture.colmap_runner import CameraGroup, run_colmap
from recon.capture.consistency import Matches
from recon.capture.poses import named_model, neighbours
from recon.lenses import Lens, undistort_points
from recon.rotations import quats_from_matrices

_NEAREST = 4
"""Cameras by place with which each is matched, beside its neighbours by name."""

MOST_GROUPS = 8
"""Lenses of a capture for which focal lengths are adjusted: with more, a few pictures each would
have to tell theirs."""

_SQUARE = 0.01
"""How far the two focal lengths of square pixels may be apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """What the pictures make of given cameras.

    Attributes:
        matches: verified, of pairs of pictures, by the given lenses.
        given: reprojection error and number of points by the given poses.
        lenses, viewmats: adjusted, in the given world; as they were given where nothing was asked
            for or could be done.
        points: [N, 3] float64, in the given world.
        rgb: [N, 3] uint8.
        reprojection_error: mean in pixels; None: there are no points.
        seconds: by stage.
    """

    matches: list[Matches]
    given: dict[str, Any]
    lenses: list[Lens]
    viewmats: Tensor
    points: Tensor
    rgb: Tensor
    reprojection_error: float | None
    seconds: dict[str, float]


def refine_poses(
    images: Path,
    names: Sequence[str],
    lenses: Sequence[Lens],
    viewmats: Tensor,
    work: Path,
    *,
    adjust: bool,
    seed: int = 0,
    threads: int = -1,
    progress: Callable[[str], None] = lambda stage: None,
) -> Refined:
    """Triangulate points with given cameras and adjust these to the pictures, by COLMAP.

    The scale and place of the world stay those that were given: the adjusted cameras are moved back
    by the similarity that brings them nearest.

    Args:
        images: folder of the pictures.
        names: of the pictures in it.
        lenses: pinhole, one for each picture.
        viewmats: [V, 4, 4] float64, world-to-camera.
        work: an empty folder for what is made on the way.
        adjust: whether the poses and focal lengths may change.
        seed: of all random choices.
        threads: that extract features; -1: one for each core.
        progress: is told the stages.

    Raises:
        PosesError: the process failed.
    """
    by_lens: dict[Lens, list[str]] = {}
    for name, lens in zip(names, lenses, strict=True):
        by_lens.setdefault(lens, []).append(name)
    groups = [_group(lens, pictures) for lens, pictures in by_lens.items()]
    is_square = all(group.camera_model == "SIMPLE_PINHOLE" for group in groups)
    given = torch.cat([quats_from_matrices(viewmats[:, :3, :3]), viewmats[:, :3, 3]], 1)
    facts = run_colmap(
        images,
        names,
        groups,
        work,
        pairs=_pairs(viewmats),
        seed=seed,
        threads=threads,
        given=given.tolist(),
        adjust=adjust,
        adjust_focal=is_square and len(groups) <= MOST_GROUPS,
        progress=progress,
    )
    matches = _read_matches(work / "matches.npz", lenses)
    model = named_model(work, facts["name_of"])
    found = {image.name: image for image in model.images.values()}
    new_viewmats = torch.stack([found[name].viewmat() for name in names])
    focals = [_focal(model.cameras[found[name].camera].lens) for name in names]
    points = torch.from_numpy(model.points.xyz)
    if adjust:
        back = similarity(new_viewmats, viewmats)
        new_viewmats, points = back.of_viewmats(new_viewmats), back.of_points(points)
    return Refined(
        matches=matches,
        given=facts["given"],
        lenses=[_zoomed(lens, f) for lens, f in zip(lenses, focals, strict=True)],
        viewmats=new_viewmats,
        points=points,
        rgb=torch.from_numpy(model.points.rgb),
        reprojection_error=facts["reprojection_error"] if len(model.points) else None,
        seconds=facts["seconds"],
    )


@dataclass(frozen=True, eq=False)
class Similarity:
    """x -> scale * rotation @ x + shift, from one world to another.

    Attributes:
        scale: positive.
        rotation: [3, 3] float64.
        shift: [3] float64.
    """

    scale: float
    rotation: Tensor
    shift: Tensor

    def of_points(self, points: Tensor) -> Tensor:
        """Move points [N, 3]."""
        return self.scale * points @ self.rotation.T + self.shift

    def of_viewmats(self, viewmats: Tensor) -> Tensor:
        """Move cameras [V, 4, 4]."""
        moved = invert_rigid(viewmats)
        moved[:, :3, :3] = self.rotation @ moved[:, :3, :3]
        moved[:, :3, 3] = self.of_points(moved[:, :3, 3])
        return invert_rigid(moved)


def similarity(viewmats: Tensor, target: Tensor) -> Similarity:
    """The similarity that brings cameras [V, 4, 4] nearest to others.

    The rotation comes from the rotations of the cameras, so that centres on a line will do.
    """
    a, b = invert_rigid(viewmats), invert_rigid(target)
    U, _, Vh = torch.linalg.svd((b[:, :3, :3] @ a[:, :3, :3].mT).sum(0))
    mirror = torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(U @ Vh))]).to(a))
    rotation = U @ mirror @ Vh
    centres, targets = a[:, :3, 3] @ rotation.T, b[:, :3, 3]
    mean, target_mean = centres.mean(0), targets.mean(0)
    spread = (centres - mean).square().sum()
    scale = float(((centres - mean) * (targets - target_mean)).sum() / spread) if spread else 1.0
    scale = scale if scale > 0 else 1.0
    return Similarity(scale, rotation, target_mean - scale * mean)


def _pairs(viewmats: Tensor) -> list[tuple[int, int]]:
    """Neighbours by number, and the nearest by place: poses may be wrong, and order by chance."""
    pairs = set(neighbours(len(viewmats)))
    centres = invert_rigid(viewmats)[:, :3, 3]
    nearest = torch.cdist(centres, centres).argsort(1)[:, 1 : _NEAREST + 1]
    for a, row in enumerate(nearest.tolist()):
        pairs |= {(min(a, b), max(a, b)) for b in row if a != b}
    return sorted(pairs)


def _read_matches(file: Path, lenses: Sequence[Lens]) -> list[Matches]:
    with np.load(file) as arrays:
        pairs, ends, points = (arrays[name] for name in ("pairs", "ends", "points"))
    found = []
    for (a, b), part in zip(
        pairs.tolist(), np.split(points, ends[:-1], axis=1) if len(ends) else [], strict=True
    ):
        pixels = torch.from_numpy(part)
        rays = [undistort_points(pixels[i], lenses[n]) for i, n in enumerate((a, b))]
        found.append(Matches(a, b, torch.stack(rays)))
    return found


def _group(lens: Lens, names: list[str]) -> CameraGroup:
    """Of square pixels, one focal length: two drift apart where the camera hardly turns."""
    if abs(lens.fx / lens.fy - 1) < _SQUARE:
        return CameraGroup(names, "SIMPLE_PINHOLE", [_focal(lens), lens.cx, lens.cy])
    return CameraGroup(names, "PINHOLE", [lens.fx, lens.fy, lens.cx, lens.cy])


def _focal(lens: Lens) -> float:
    return (lens.fx * lens.fy) ** 0.5


def _zoomed(lens: Lens, focal: float) -> Lens:
    """The lens with another focal length; pixels keep their shape."""
    zoom = focal / _focal(lens)
    return replace(lens, fx=lens.fx * zoom, fy=lens.fy * zoom)
