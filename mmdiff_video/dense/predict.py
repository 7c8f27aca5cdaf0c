"""``mmdiff-video predict``: a trained run on pictures, folders of pictures and videos."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.picture_files import PictureError, is_picture, read_rgb
from mmdiff_video.datasets.pictures.views import to_tensor, to_tensors
from mmdiff_video.datasets.video_reader import (
    VideoError,
    count_frames,
    frame_rate,
    iterate_frames,
)
from mmdiff_video.dense.pictures import overlay
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_folder, write_folder_aside, write_json
from mmdiff_video.pictures import save_png, save_video, stamp
from mmdiff_video.skipped import Skipped

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".ts", ".mts")
"""How names of videos end, in small or capital letters."""

_MOST_ELONGATED = 8
"""Longer side of a picture over its shorter one, at most: the shorter one is brought to the run's
size, so that without a limit the longer one, and memory, would have none."""


@dataclass
class PredictReport:
    """What was done.

    Attributes:
        out: the folder.
        task: what was predicted.
        notice: what must be said of the backbone; empty for nothing.
        written: input -> the file or folder of its prediction.
        skipped: inputs that could not be used.
    """

    out: Path
    task: str
    notice: str
    written: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.task} of {len(self.written)} inputs in {self.out}"]
        lines += [f"skipped {key}: {reason}" for key, reason in self.skipped]
        return "\n".join([*lines, self.notice] if self.notice else lines)


def predict_paths(
    run: Path | str,
    paths: Sequence[Path],
    out: Path,
    *,
    prompt: str | None = None,
    backbone: Backbone | None = None,
) -> PredictReport:
    """Predict for files and folders, and write ``report.json`` beside the results.

    Pictures are turned upright by their EXIF orientation. A folder's pictures and videos (not those
    in folders below it) go into a folder of its name.

    Args:
        run: a run folder, or what :meth:`DenseModel.from_pretrained` takes.
        paths: pictures, videos, folders.
        out: where results go.
        prompt: what the inputs show; None: the run's prompt.
        backbone: the run's, if it is loaded already.

    Raises:
        InputError: no such run, a path that is neither picture, video nor folder, a folder without
            either, results that would take the place of inputs.
    """
    inputs = list(_inputs(paths))
    _refuse_overwriting(inputs, out)
    model = DenseModel.from_pretrained(run, backbone)
    report = PredictReport(out, model.setup.task.name, model.setup.notice)
    for path, place in tqdm(inputs, desc="predict", unit="input", disable=None):
        try:
            if _is_video(path):
                report.written[str(path)] = str(_video(model, path, out / place, prompt))
            else:
                report.written[str(path)] = str(_picture(model, path, out / place, prompt))
        except (PictureError, VideoError) as error:
            report.skipped.append(Skipped(str(path), str(error)))
    write_json(
        out / "report.json",
        {
            "task": report.task,
            "run": str(run),
            "notice": report.notice,
            "written": report.written,
            "skipped": [{"key": key, "reason": reason} for key, reason in report.skipped],
        },
    )
    return report


def _inputs(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Pair every file with the place of its result below the output folder, without a suffix."""
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if is_picture(p) or _is_video(p))
            if not inside:
                raise InputError(f"there is no picture and no video in '{path}'")
            found += [(p, Path(path.resolve().name)) for p in inside]
        elif not path.exists():
            raise InputError(f"there is no '{path}'")
        elif is_picture(path) or _is_video(path):
            found.append((path, Path()))
        else:
            raise InputError(
                f"'{path}' is neither a picture nor a video nor a folder (by the end of its name)"
            )
    stems = Counter(folder / path.stem for path, folder in found)
    places: set[Path] = set()
    for path, folder in found:
        # a.jpg beside a.png: the whole name tells them apart
        place = folder / (path.stem if stems[folder / path.stem] == 1 else path.name)
        if place in places:
            raise InputError(f"two inputs are called '{place}': predict them into two folders")
        places.add(place)
        yield path, place


def _refuse_overwriting(inputs: Sequence[tuple[Path, Path]], out: Path) -> None:
    given = {path.resolve() for path, _ in inputs}
    for path, place in inputs:
        target = out / place
        results = [_overlay_path(target, _is_video(path))]
        if _is_video(path):
            check_frames_folder(target)
        else:
            results.append(target.with_name(f"{target.name}.png"))
        for result in results:
            if result.resolve() in given:
                raise InputError(
                    f"the result '{result}' would take the place of an input: choose another --out"
                )


def check_frames_folder(place: Path) -> None:
    """Refuse a folder for a video's frames that is more than an earlier prediction.

    Raises:
        InputError: it holds other files, or has no overlay beside it.
    """
    if not place.exists():
        return
    # file managers leave hidden ones
    names = [path.name for path in place.iterdir() if not path.name.startswith(".")]
    ours = all(re.fullmatch(r"\d{6,}\.png", name) for name in names)
    if not ours or not _overlay_path(place, True).exists():
        raise InputError(
            f"'{place}' is there already, and no earlier prediction: move it away or choose"
            " another --out"
        )


def _overlay_path(place: Path, video: bool) -> Path:
    return place.with_name(f"{place.name}_overlay{'.mp4' if video else '.png'}")


def _picture(model: DenseModel, path: Path, place: Path, prompt: str | None) -> Path:
    image = read_rgb(path, upright=True)
    height, width = image.shape[:2]
    if max(height, width) > _MOST_ELONGATED * min(height, width):
        raise PictureError(
            f"{path.name} is {width} x {height} pixels: one side is more than {_MOST_ELONGATED}"
            " times the other; cut it into pieces"
        )
    prediction = model.predict(to_tensor(image)[None], [prompt])[0]
    return write_picture(model, image, prediction, place)


def _video(model: DenseModel, path: Path, place: Path, prompt: str | None) -> Path:
    """Predict clip by clip, of as many frames as the backbone takes by default."""
    length = max(model.setup.backbone.defaults.frames, 1)
    bar = tqdm(
        iterate_frames(path),
        desc=path.name,
        unit="frame",
        total=count_frames(path),
        leave=False,
        disable=None,
    )
    every = iter(bar)

    def clips() -> Iterator[tuple[NDArray[np.uint8], Tensor]]:
        while clip := list(islice(every, length)):
            frames = np.stack(clip)
            yield frames, model.predict_video(to_tensors(frames), prompt)

    return write_video(model, clips(), place, frame_rate(path))


def write_picture(
    model: DenseModel, image: NDArray[np.uint8], prediction: Tensor, place: Path
) -> Path:
    """Write the prediction of a picture, and an overlay; returns the former's file.

    ``place``: path without a suffix.
    """
    target = place.with_name(f"{place.name}.png")
    model.setup.task.write(prediction, target)
    painted = _painted(model, image, prediction, prediction)
    save_png(Image.fromarray(painted), _overlay_path(place, False))
    return target


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
        save_video(painted(aside), _overlay_path(place, True), fps=fps)
        if place.exists():
            remove_folder(place)
    return place


def _painted(
    model: DenseModel, image: NDArray[np.uint8], prediction: Tensor, like: Tensor
) -> NDArray[np.uint8]:
    painted = overlay(image, model.setup.task.color(prediction, like))
    return stamp(painted, model.setup.notice) if model.setup.notice else painted


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
