"""Poses of pictures that have none, by COLMAP (pycolmap, the extra ``capture``)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recon.capture.colmap_runner import CameraGroup, PosesError, is_installed, run_colmap
from recon.io.colmap import read_model
from recon.io.colmap_model import Model

__all__ = ["LEAST_PICTURES", "CameraGroup", "Poses", "PosesError", "find_poses"]

LEAST_PICTURES = 3
"""Two pictures tell neither scale nor a wrong match from a right one."""

MOST_EXHAUSTIVE = 80
"""Photographs that are matched all with all, some minutes of work; of more, each with its
neighbours by name."""

_STEPS = (1, 2, 3, 4, 6, 9, 13, 20, 30, 45, 70, 100)
"""How far the frames of a video are apart that are matched: fewer pairs than all neighbours, and
wider ones, which tell depth."""

_STILL = 1.0
"""Pixels: a video whose features move less shows no depth."""

_FEW_FEATURES, _FEW_MATCHES = 50, 15
"""What a picture needs to be registered: COLMAP's own least numbers are near these."""


@dataclass(frozen=True, kw_only=True)
class Poses:
    """What was found.

    Attributes:
        model: cameras, registered images and points.
        chosen: which settings won.
        attempts: of each that was tried: its name, ``registered``, ``points``,
            ``reprojection_error`` (pixels) and ``seconds``.
        reprojection_error: mean over all keypoints, in pixels.
        left_out: picture -> why it was not registered.
        seconds: by stage.
    """

    model: Model
    chosen: str
    attempts: list[dict[str, Any]]
    reprojection_error: float | None
    left_out: dict[str, str]
    seconds: dict[str, float]


def find_poses(
    images: Path,
    names: Sequence[str],
    work: Path,
    *,
    ordered: bool,
    groups: Sequence[CameraGroup] | None = None,
    camera_model: str = "SIMPLE_RADIAL",
    seed: int = 0,
    threads: int = -1,
    progress: Callable[[str], None] = lambda stage: None,
) -> Poses:
    """Find the cameras of pictures.

    Several settings are tried; the model with most registered pictures, and then most points, is
    kept. The search runs in a process of its own, which ends with this one.

    Args:
        images: folder of the pictures.
        names: of the pictures in it, in the order of the video.
        work: an empty folder for what is made on the way.
        ordered: frames of a video, of which neighbours are matched; else all with all.
        groups: which of the pictures share a camera; None: all do.
        camera_model: of COLMAP, where ``groups`` is None.
        seed: of all random choices.
        threads: that extract features; -1: one for each core.
        progress: is told the stages.

    Raises:
        PosesError: pycolmap is not installed, too few pictures, nothing that moves, or no pictures
            that fit together.
    """
    if not is_installed():
        raise PosesError(
            "finding poses needs pycolmap: pip install 'mmdiff-video[capture]', or bring poses of"
            " COLMAP or a transforms.json"
        )
    if len(names) < LEAST_PICTURES:
        few = f"{len(names)} pictures are" if len(names) != 1 else "1 picture is"
        raise PosesError(
            f"{few} too few to find poses: {LEAST_PICTURES} are the least, 20 to 200 are good"
        )
    facts = run_colmap(
        images,
        names,
        [CameraGroup(list(names), camera_model, [])] if groups is None else groups,
        work,
        pairs=neighbours(len(names)) if ordered or len(names) > MOST_EXHAUSTIVE else None,
        seed=seed,
        threads=threads,
        progress=progress,
    )
    pictures = facts["pictures"]
    if not facts.get("registered"):
        raise PosesError(_why_nothing(pictures, facts["median_motion"]))
    if (motion := facts["median_motion"]) is not None and motion < _STILL:
        raise PosesError(_STANDS_STILL.format(motion))
    return Poses(
        model=named_model(work, facts["name_of"]),
        chosen=facts["chosen"],
        attempts=facts["attempts"],
        reprojection_error=facts["reprojection_error"],
        left_out={p["name"]: _why(p) for p in pictures if not p["registered"]},
        seconds=facts["seconds"],
    )


def neighbours(count: int) -> list[tuple[int, int]]:
    """Pairs of frames of a video to match: near ones, and some that are further apart."""
    return [(a, a + step) for a in range(count) for step in _STEPS if a + step < count]


def named_model(work: Path, name_of: dict[str, str]) -> Model:
    """The model that the process left, with the names of the pictures."""
    model = read_model(work / "model")
    images = {k: replace(image, name=name_of[image.name]) for k, image in model.images.items()}
    return replace(model, images=images)


_STANDS_STILL = (
    "the camera stands still (features move {:.1f} pixels in the median): walk sideways while"
    " filming, as turning on the spot shows no depth either"
)


def _why(picture: dict[str, Any]) -> str:
    if picture["features"] < _FEW_FEATURES:
        return f"{picture['features']} features: it is blurred, dark or empty"
    if picture["matches"] < _FEW_MATCHES:
        return f"{picture['matches']} matches: it shows nothing that others show"
    return f"{picture['matches']} matches, and no pose that fits them"


def _why_nothing(pictures: list[dict[str, Any]], motion: float | None) -> str:
    features = sorted(p["features"] for p in pictures)[len(pictures) // 2]
    matches = sorted(p["matches"] for p in pictures)[len(pictures) // 2]
    if features < _FEW_FEATURES:
        reason = (
            f"the pictures have {features} features in the median: they are blurred, dark or empty;"
            " film slowly, in good light, things with texture"
        )
    elif matches < _FEW_MATCHES:
        reason = "the pictures do not overlap: film slowly, so that neighbours share most of a view"
    elif motion is not None and motion < _STILL:
        reason = _STANDS_STILL.format(motion)
    else:
        reason = (
            "the pictures match, but no two cameras fit them: a turn on the spot, a zoom or things"
            " that move look like this; walk sideways past things that stand still"
        )
    return f"none of the {len(pictures)} pictures was registered: {reason}"
