"""From a video, photographs or a project of others to a capture: pinhole pictures and cameras."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_stale_partials, write_folder_aside
from mmdiff_video.scenes.capture.camera_picture import draw_capture
from mmdiff_video.scenes.capture.copies import IMAGES, Copy, take_in
from mmdiff_video.scenes.capture.found_poses import find
from mmdiff_video.scenes.capture.given_poses import judge
from mmdiff_video.scenes.capture.posed import Posed
from mmdiff_video.scenes.capture.report import CaptureReport, made_from, read_report
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.capture.sources import Source, open_source
from mmdiff_video.scenes.folder import CAMERAS_PICTURE
from mmdiff_video.skipped import Skipped, reasons
from recon.capture.capture import (
    Capture,
    Photo,
    load_capture,
    save_as_colmap,
    save_as_transforms,
)
from recon.capture.poses import PosesError
from recon.io.format_error import FormatError
from recon.lenses import Lens

_WORK = "work"
"""Folder in the unfinished capture for what is made on the way."""


class Made(NamedTuple):
    """A capture on disk.

    Attributes:
        capture: photos of it with their pinhole cameras, points.
        report: how it came about.
        reused: whether it was there already.
    """

    capture: Capture
    report: CaptureReport
    reused: bool


def make_capture(
    source: Path,
    out: Path,
    settings: CaptureSettings,
    *,
    progress: Callable[[str], None] = lambda stage: None,
) -> Made:
    """Make a capture, or find that it was made already from the same source and settings.

    ``out`` becomes a COLMAP project that other programs read: ``images/`` (PNG, undistorted),
    ``sparse/0`` (pinhole cameras, points), ``transforms.json`` (the same cameras), ``masks/`` where
    the source has masks, ``cameras.png`` to look at and ``report.json``. It appears when all is
    done.

    Args:
        source: a video; a folder of photographs; a COLMAP project; a ``transforms.json`` or its
            folder; a RealEstate10K camera file beside its video.
        out: of the capture; missing, empty, or such a capture.
        settings: how.
        progress: is told the stages.

    Raises:
        InputError: a source that cannot be used, an ``out`` that holds something else,
            no poses, or given ones that the pictures speak against.
        OSError: the disk takes nothing more.
    """
    seconds: dict[str, float] = {}
    with sentences():
        opened = open_source(source, settings)
        origin = made_from(source, opened.files, settings)
        if made := _made_before(out, origin):
            return made
        if out.parent.is_dir():
            remove_stale_partials(out.parent)
        with write_folder_aside(out) as aside:
            work = aside / _WORK
            work.mkdir()
            began = time.monotonic()
            copies = take_in(opened, aside, settings.longest_side, progress)
            seconds["pictures"] = round(time.monotonic() - began, 2)
            _require_pictures(copies, opened, source)
            solve = judge if opened.posed else find
            posed = solve(opened, copies, aside, work, settings, progress)
            shutil.rmtree(work)
            report = _write(posed, opened, aside, origin, seconds | posed.seconds)
        return Made(load_capture(out), report, False)


def _made_before(out: Path, origin: dict) -> Made | None:
    """The capture in ``out`` if it is what is asked for; None: there is nothing yet.

    Raises:
        InputError: something else is there.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return None
    report = read_report(out)
    if report is None:
        raise InputError(f"'{out}' is not empty, and no capture: choose another folder")
    if report.made_from != origin:
        raise InputError(
            f"'{out}' holds a capture of another source or with other settings: choose another"
            " folder, or delete it"
        )
    capture = load_capture(out)
    if capture.left_out:
        raise InputError(
            f"'{out}' has lost {len(capture.left_out)} of its pictures: delete it to make it anew"
        )
    return Made(capture, report, True)


def _require_pictures(copies: list[Copy], source: Source, path: Path) -> None:
    if not copies:
        left_out = [Skipped(*entry) for entry in source.left_out.items()]
        raise InputError(f"'{path}': none of its pictures can be used{reasons(left_out)}")


def _write(
    posed: Posed, source: Source, folder: Path, origin: dict, seconds: dict[str, float]
) -> CaptureReport:
    began = time.monotonic()
    photos = as_photos(posed.views, folder)
    capture = Capture(photos, posed.points, posed.rgb)
    for copy in posed.dropped:
        (folder / IMAGES / copy.name).unlink()
    save_as_colmap(capture, folder)
    save_as_transforms(capture, folder)
    draw_capture(capture, folder / CAMERAS_PICTURE)
    report = CaptureReport(
        source=source.words,
        made_from=origin,
        poses="given" if source.posed else "found",
        frames=source.count,
        registered=len(photos),
        points=len(posed.points),
        reprojection_error=posed.reprojection_error,
        left_out=source.left_out | posed.left_out,
        chosen=posed.chosen,
        attempts=posed.attempts,
        camera=posed.camera,
        seconds=seconds | {"writing": round(time.monotonic() - began, 2)},
    )
    report.write(folder)
    return report


def as_photos(views: Iterable[tuple[Copy, Lens, Tensor]], folder: Path) -> list[Photo]:
    """Photos of a capture from its pictures with their lenses and viewmats."""
    return [
        Photo(
            copy.name,
            folder / IMAGES / copy.name,
            lens,
            viewmat,
            None if copy.mask is None else folder / copy.mask,
        )
        for copy, lens, viewmat in views
    ]


@contextmanager
def sentences() -> Iterator[None]:
    """What the lower floor refuses is a user's mistake here."""
    try:
        yield
    except (FormatError, PosesError) as error:
        raise InputError(str(error)) from None
