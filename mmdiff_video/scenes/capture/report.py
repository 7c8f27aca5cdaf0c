"""What a capture was made of, how, and how well: ``report.json`` in its folder."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmdiff_video.datasets.names import shown
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, write_json
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.folder import REPORT
from mmdiff_video.skipped import Skipped, listed

_FORM = 1
"""Of the folder of a capture; another one is not taken for finished work."""


@dataclass(frozen=True, kw_only=True)
class CaptureReport:
    """How a capture came about.

    Attributes:
        source: what it was made of, in words.
        made_from: tells whether that and the settings are still the same.
        poses: ``found`` by COLMAP or ``given``.
        frames: pictures of the source that were looked at.
        registered: pictures that have a camera.
        points: of the scene.
        reprojection_error: mean in pixels; None: not known.
        left_out: picture -> why it is none of the capture.
        chosen: which settings of COLMAP won, or what became of given poses.
        attempts: of each way that was tried: its name and what came of it.
        camera: what took the first picture, in words.
        seconds: by stage.
    """

    source: str
    made_from: dict[str, Any]
    poses: str
    frames: int
    registered: int
    points: int
    reprojection_error: float | None
    left_out: dict[str, str]
    chosen: str
    attempts: list[dict[str, Any]]
    camera: str
    seconds: dict[str, float]

    def write(self, folder: Path) -> None:
        """Write it into the folder of the capture."""
        write_json(folder / REPORT, asdict(self))

    def lines(self, folder: Path) -> str:
        """Say it on a terminal."""
        error = self.reprojection_error
        lines = [
            f"{self.registered} of {self.frames} pictures have a camera"
            + (f", {self.points} points" if self.points else "")
            + (f", reprojection error {error:.2f} pixels" if error is not None else ""),
            f"poses {self.poses}: {self.chosen}; camera: {self.camera}",
            *listed([Skipped(shown(name), reason) for name, reason in self.left_out.items()], 8),
            f"the capture is in '{folder}', {sum(self.seconds.values()):.0f} s",
        ]
        return "\n".join(lines)


def made_from(source: Path, files: Sequence[Path], settings: CaptureSettings) -> dict[str, Any]:
    """What a capture depends on: the files by name, size and time, and the settings."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        state = file.stat()
        digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="replace"))
    return {
        "form": _FORM,
        "path": shown(str(source.resolve())),
        "files": digest.hexdigest(),
        "settings": asdict(settings),
    }


def read_report(folder: Path) -> CaptureReport | None:
    """Read the report of a capture; None: the folder holds none, so that it is no capture of ours.

    Raises:
        InputError: it is damaged.
    """
    file = folder / REPORT
    if not file.is_file():
        return None
    values = read_json(file)
    if not isinstance(values, Mapping) or "made_from" not in values:
        return None
    try:
        return CaptureReport(**values)
    except TypeError:
        raise InputError(
            f"'{file}' is no report of a capture of this version: choose another folder"
        ) from None
