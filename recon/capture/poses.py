"""Poses of pictures that have none, by COLMAP (pycolmap, the extra ``capture``)."""

import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.io.colmap import read_model
from recon.io.colmap_model import Model

LEAST_PICTURES = 3
"""Two pictures tell neither scale nor a wrong match from a right one."""

_STILL = 1.0
"""Pixels: a video whose features move less shows no depth."""

_FEW_FEATURES, _FEW_MATCHES = 50, 15
"""What a picture needs to be registered: COLMAP's own least numbers are near these."""


class PosesError(ValueError):
    """No poses were found; the message says why, and what to film differently."""


@dataclass(frozen=True, kw_only=True)
class Poses:
    """What was found.

    Attributes:
        model: pinhole cameras, registered images and points.
        images: folder of the undistorted pictures that ``model`` names.
        chosen: which settings won.
        attempts: of each that was tried: its name, ``registered``, ``points``,
            ``reprojection_error`` (pixels) and ``seconds``.
        reprojection_error: mean over all keypoints, in pixels.
        left_out: picture -> why it was not registered.
        seconds: by stage.
    """

    model: Model
    images: Path
    chosen: str
    attempts: list[dict[str, Any]]
    reprojection_error: float
    left_out: dict[str, str]
    seconds: dict[str, float]


def find_poses(
    images: Path,
    names: Sequence[str],
    work: Path,
    *,
    ordered: bool,
    one_camera: bool = True,
    camera_model: str = "SIMPLE_PINHOLE",
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Poses:
    """Find the cameras of pictures.

    Several settings are tried; the model with most registered pictures, and then most points, is
    kept. The search runs in a process of its own, which ends with this one.

    Args:
        images: folder of the pictures.
        names: of the pictures in it, in the order of the video.
        work: an empty folder for what is made on the way; the undistorted pictures stay there.
        ordered: frames of a video, of which neighbours are matched; else all with all.
        one_camera: all pictures are of one camera with one zoom.
        camera_model: of COLMAP.
        seed: of all random choices.
        progress: is told the stages.

    Raises:
        PosesError: pycolmap is not installed, too few pictures, nothing that moves, or no pictures
            that fit together.
    """
    if importlib.util.find_spec("pycolmap") is None:
        raise PosesError(
            "finding poses needs pycolmap: pip install 'mmdiff-video[capture]', or bring poses of"
            " COLMAP or a transforms.json"
        )
    if len(names) < LEAST_PICTURES:
        raise PosesError(
            f"{len(names)} pictures are too few to find poses: {LEAST_PICTURES} are the least, 20"
            " to 200 are good"
        )
    job = {
        "images": str(images),
        "names": list(names),
        "work": str(work),
        "ordered": ordered,
        "one_camera": one_camera,
        "camera_model": camera_model,
        "seed": seed,
    }
    file = work / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    _run(file, progress)
    facts = json.loads((work / "facts.json").read_text(encoding="utf-8"))
    pictures = facts["pictures"]
    if not facts.get("registered"):
        raise PosesError(_why_nothing(pictures, facts["median_motion"]))
    if (motion := facts["median_motion"]) is not None and motion < _STILL:
        raise PosesError(_STANDS_STILL.format(motion))
    return Poses(
        model=read_model(work / "undistorted" / "sparse"),
        images=work / "undistorted" / "images",
        chosen=facts["chosen"],
        attempts=facts["attempts"],
        reprojection_error=facts["reprojection_error"],
        left_out={p["name"]: _why(p) for p in pictures if not p["registered"]},
        seconds=facts["seconds"],
    )


_STANDS_STILL = (
    "the camera stands still (features move {:.1f} pixels in the median): walk sideways while"
    " filming, as turning on the spot shows no depth either"
)


def _run(job: Path, progress: Callable[[str], None]) -> None:
    """Run the process, telling ``progress`` what it says.

    Raises:
        PosesError: it failed, with its last words.
    """
    command = [sys.executable, "-m", "recon.capture.colmap_process", str(job)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8"
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                progress(json.loads(line)["stage"])
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        if code < 0:
            raise PosesError(
                f"COLMAP was ended by signal {-code} ({_signal_name(-code)}): free some memory, or"
                " give it fewer or smaller pictures"
            )
        if code:
            complaints.seek(0)
            words = complaints.read().strip().splitlines()
            said = f": {words[-1][:200]}" if words else ""
            raise PosesError(f"COLMAP ended with status {code}{said}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


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
