"""The files of dense predictions: maps that programs read, and overlays for people."""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.dense.pictures import overlay
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, remove_folder, write_folder_aside
from mmdiff_video.outputs import refuse_link
from mmdiff_video.pictures import save_png, save_video, stamp

REPORT = "report.json"
"""The file beside the results."""

_SUFFIXES = (".png", ".npy")
"""Of maps: PNG, and arrays where that cannot hold the values."""


def results_of(place: Path, video: bool) -> list[Path]:
    """List what the prediction for a picture or video may write.

    Args:
        place: path without a suffix; of a video, the folder of its frames.
        video: whether it is one.
    """
    if video:
        return [place, _beside(place, "_overlay.mp4")]
    return [_beside(place, "_overlay.png"), *(_beside(place, suffix) for suffix in _SUFFIXES)]


def written_before(out: Path) -> frozenset[str]:
    """List the results that a folder's report names; none where there is no such report."""
    try:
        written = read_json(out / REPORT)["written"]
        return frozenset(map(str, written.values() if isinstance(written, dict) else written))
    except (OSError, ValueError, TypeError, KeyError):
        return frozenset()


def remove_other_form(result: Path, before: Collection[str]) -> None:
    """Remove an earlier result that a new one, of another ending, stands in place of.

    Args:
        result: the new one.
        before: what :func:`written_before` lists; nothing else is touched.
    """
    for suffix in _SUFFIXES:
        other = result.with_suffix(suffix)
        if result.suffix in _SUFFIXES and other != result and str(other) in before:
            other.unlink(missing_ok=True)


def check_frames_folder(place: Path) -> None:
    """Refuse a folder for a video's frames that is more than an earlier prediction.

    Raises:
        InputError: it is a link, holds other files, or has no overlay beside it.
    """
    refuse_link(place)
    if not place.exists():
        return
    # file managers leave hidden ones
    names = [path.name for path in place.iterdir() if not path.name.startswith(".")]
    ours = all(re.fullmatch(r"\d{6,}\.(png|npy)", name) for name in names)
    if not ours or not _beside(place, "_overlay.mp4").exists():
        raise InputError(
            f"'{place}' is there already, and no earlier prediction: move it away or choose"
            " another --out"
        )


def write_picture(
    model: DenseModel, image: NDArray[np.uint8], prediction: Tensor, place: Path
) -> Path:
    """Write the prediction of a picture, and an overlay; returns the former's file.

    Args:
        model: what predicted.
        image: uint8 [H, W, 3].
        prediction: [C, H, W].
        place: path without a suffix.

    Raises:
        OSError: a file cannot be written.
    """
    painted = _painted(model, image, prediction, prediction)
    save_png(Image.fromarray(painted), _beside(place, "_overlay.png"))
    return model.setup.task.write(prediction, _beside(place, ".png"))


def write_video(
    model: DenseModel,
    clips: Iterable[tuple[NDArray[np.uint8], Tensor]],
    place: Path,
    fps: float,
) -> Path:
    """Write the predictions of clips of a video, frame by frame, and an overlay video.

    Args:
        model: what predicted.
        clips: frames uint8 [T, H, W, 3] and predictions [T, C, H, W].
        place: becomes the folder of the frames, when all of them are there; returned.
        fps: of the overlay.

    Raises:
        InputError: the folder exists and holds something else than an earlier prediction.
        OSError: a file cannot be written.
    """
    check_frames_folder(place)

    def painted(folder: Path) -> Iterator[NDArray[np.uint8]]:
        like: Tensor | None = None  # one range of colours for the whole video
        number = count()
        for frames, predictions in clips:
            like = predictions if like is None else like
            for frame, prediction in zip(frames, predictions, strict=True):
                model.setup.task.write(prediction, folder / f"{next(number):06d}.png")
                yield _painted(model, frame, prediction, like)

    with write_folder_aside(place) as aside:
        save_video(painted(aside), _beside(place, "_overlay.mp4"), fps=fps)
        if place.exists():
            remove_folder(place)
    return place


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(f"{place.name}{ending}")


def _painted(
    model: DenseModel, image: NDArray[np.uint8], prediction: Tensor, like: Tensor
) -> NDArray[np.uint8]:
    painted = overlay(image, model.setup.task.color(prediction, like))
    return stamp(painted, model.setup.notice) if model.setup.notice else painted
