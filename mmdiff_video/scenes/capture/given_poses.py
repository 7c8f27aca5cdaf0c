"""Poses that came with the pictures: checked against them, and refined."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.scenes.capture.copies import IMAGES, Copy
from mmdiff_video.scenes.capture.found_poses import lens_in_words
from mmdiff_video.scenes.capture.matching import match_few
from mmdiff_video.scenes.capture.memory import feature_threads
from mmdiff_video.scenes.capture.posed import Posed
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.capture.sources import Source
from recon.capture.colmap_runner import is_installed
from recon.capture.consistency import Matches, Verdict, check_poses
from recon.capture.refinement import refine_poses
from recon.lenses import Lens

_REFINABLE = 3
"""Pictures: with fewer, nothing says which of poses and matches is wrong."""

_CLEARLY = 0.95
"""Of the distance before, to which refined poses must bring it: else the given ones stay."""


def judge(
    source: Source,
    copies: list[Copy],
    folder: Path,
    work: Path,
    settings: CaptureSettings,
    progress: Callable[[str], None],
) -> Posed:
    """Check given poses, and refine them where that brings them nearer to the pictures.

    Args:
        source: of the pictures.
        copies: the pictures, with their pinhole lenses and viewmats.
        folder: of the capture, which has them.
        work: an empty folder for what is made on the way.
        settings: of the capture.
        progress: is told the stages.

    Raises:
        InputError: the pictures speak against the poses.
        PosesError: COLMAP failed.
    """
    lenses = [copy.camera()[0] for copy in copies]
    viewmats = torch.stack([copy.camera()[1] for copy in copies])
    refined = None
    asked = settings.check_poses or settings.refine_poses
    if asked and is_installed() and len(copies) >= _REFINABLE:
        refined = refine_poses(
            folder / IMAGES,
            [copy.name for copy in copies],
            lenses,
            viewmats,
            work,
            adjust=settings.refine_poses,
            seed=settings.seed,
            threads=feature_threads(copies),
            progress=progress,
        )
        matches = refined.matches
    elif settings.check_poses:
        progress("matching")
        matches = match_few([folder / IMAGES / copy.name for copy in copies], lenses)
    else:
        matches = []
    verdict = check_poses(viewmats, matches, lenses[0].fx, source.convention)
    if settings.check_poses and (problem := problem_of(verdict)) is not None:
        raise InputError(f"{source.words}: {problem}; to go on all the same, --no-check-poses")
    attempts = [{"name": "as given", **_facts(verdict)}]
    chosen, error = "kept as given" + _words(verdict), None
    points, rgb = source.points, source.rgb
    if refined is not None:
        error = refined.given["reprojection_error"]
        attempts[0] |= refined.given
        if settings.refine_poses:
            after = check_poses(
                refined.viewmats, rescaled(matches, lenses, refined.lenses), lenses[0].fx
            )
            attempts.append({"name": "refined", **_facts(after)})
            if _is_better(after, verdict):
                lenses, viewmats = refined.lenses, refined.viewmats
                error, points, rgb = refined.reprojection_error, refined.points, refined.rgb
                chosen = f"refined{_words(verdict)} before, {after.distance:.2f} after"
        if not len(points):
            points, rgb = refined.points, refined.rgb
    return Posed(
        views=list(zip(copies, lenses, viewmats, strict=True)),
        points=points,
        rgb=rgb,
        reprojection_error=error,
        chosen=chosen,
        attempts=attempts,
        camera=lens_in_words(lenses[0]),
        seconds={} if refined is None else refined.seconds,
    )


def rescaled(matches: list[Matches], lenses: list[Lens], others: list[Lens]) -> list[Matches]:
    """Matches by other pinhole lenses of the same pictures."""

    def rays(match: Matches, which: int, number: int) -> Tensor:
        old, new = lenses[number], others[number]
        return match.rays[which] * match.rays.new_tensor([old.fx / new.fx, old.fy / new.fy])

    return [
        Matches(m.first, m.second, torch.stack([rays(m, 0, m.first), rays(m, 1, m.second)]))
        for m in matches
    ]


def problem_of(verdict: Verdict) -> str | None:
    """Say what is wrong with poses; None: the pictures agree with them, or do not tell."""
    if verdict.agrees:
        return None
    if verdict.instead:
        return f"its poses are {verdict.instead}: turn them round in the file"
    behind = 1 - verdict.in_front
    return (
        f"by its poses, what pictures share lies {verdict.distance:.1f} pixels apart in the"
        + (f" median and {behind:.0%} of it behind a camera" if behind > 0.5 else " median")
        + ": they are wrong in no way that is known here, or belong to other pictures"
    )


def _is_better(after: Verdict, before: Verdict) -> bool:
    if after.distance is None or before.distance is None:
        return False
    return after.agrees and after.distance < _CLEARLY * before.distance


def _facts(verdict: Verdict) -> dict[str, float | None]:
    distance = verdict.distance
    return {
        "epipolar_distance": None if distance is None else round(distance, 3),
        "in_front": round(verdict.in_front, 4),
    }


def _words(verdict: Verdict) -> str:
    if verdict.distance is None:
        return ", too few matches to check them"
    return f", what pictures share lies {verdict.distance:.2f} pixels apart"
