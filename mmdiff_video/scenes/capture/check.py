"""``mmdiff-video data check`` of a capture: are the pictures there, and do they agree with it?"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mmdiff_video.datasets.clips.card import card_names
from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.pictures.card import image_card_names
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json
from mmdiff_video.scenes.capture.camera_picture import draw_capture
from mmdiff_video.scenes.capture.copies import IMAGES, take_in
from mmdiff_video.scenes.capture.given_poses import problem_of
from mmdiff_video.scenes.capture.make import as_photos, sentences
from mmdiff_video.scenes.capture.matching import match_few
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.capture.sources import open_source
from mmdiff_video.scenes.folder import CAMERAS_PICTURE, REPORT
from mmdiff_video.skipped import Skipped, listed
from recon.capture.capture import Capture
from recon.capture.consistency import check_poses

_LOOKED_AT = 640
"""Pixels of the longer side to which pictures are shrunk for the check."""


@dataclass(frozen=True, kw_only=True)
class CaptureCheck:
    """What was found.

    Attributes:
        capture: what was looked at, in words.
        pictures: that the files name.
        usable: of these, that can be read and fit their cameras.
        points: of the scene.
        left_out: picture -> why it cannot be used.
        epipolar_distance: of what pictures share, by the poses: the median in pixels; None: too few
            matches to tell.
        problem: what is wrong with the poses; None: nothing that the pictures show.
    """

    capture: str
    pictures: int
    usable: int
    points: int
    left_out: dict[str, str]
    epipolar_distance: float | None
    problem: str | None

    def table(self) -> str:
        """Say it on a terminal."""
        distance = self.epipolar_distance
        poses = self.problem or (
            "too few matches to check the poses"
            if distance is None
            else f"the pictures agree with the poses ({distance:.2f} pixels off in the median)"
        )
        return "\n".join(
            [
                f"{self.capture}: {self.usable} of {self.pictures} pictures usable,"
                f" {self.points} points",
                *listed([Skipped(*entry) for entry in self.left_out.items()]),
                poses,
            ]
        )


def is_capture(name: str) -> bool:
    """Whether what a user wants checked is a path, and not the name of a data set."""
    return name not in {*card_names(), *image_card_names()} and Path(name).exists()


def check_capture(
    path: Path, out: Path, progress: Callable[[str], None] = lambda stage: None
) -> CaptureCheck:
    """Read every picture of a capture, hold its poses against some, and write a report.

    Args:
        path: a COLMAP project, a ``transforms.json`` or its folder, a RealEstate10K camera file.
        out: folder that receives ``report.json`` and ``cameras.png``.
        progress: is told the stages.

    Raises:
        InputError: there is no capture, or it cannot be read.
    """
    with sentences(), tempfile.TemporaryDirectory() as folder:
        source = open_source(path, CaptureSettings())
        if not source.posed:
            raise InputError(f"'{path}' has no cameras to check: `mmdiff-video capture` finds some")
        copies = take_in(source, Path(folder), _LOOKED_AT, progress)
        photos = as_photos([(copy, *copy.camera()) for copy in copies], Path(folder))
        distance = problem = None
        if photos:
            progress("matching")
            lenses = [photo.lens for photo in photos]
            matches = match_few([Path(folder) / IMAGES / copy.name for copy in copies], lenses)
            viewmats = torch.stack([photo.viewmat for photo in photos])
            verdict = check_poses(viewmats, matches, lenses[0].fx, source.convention)
            distance, problem = verdict.distance, problem_of(verdict)
            out.mkdir(parents=True, exist_ok=True)
            draw_capture(Capture(photos, source.points, source.rgb), out / CAMERAS_PICTURE)
    check = CaptureCheck(
        capture=shown(source.words),
        pictures=source.count,
        usable=len(photos),
        points=len(source.points),
        left_out=dict(source.left_out),
        epipolar_distance=distance,
        problem=problem,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / REPORT, asdict(check))
    return check
