"""``mmdiff-video predict``: a trained run on pictures, folders of pictures and videos."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.datasets.pictures.views import to_tensor, to_tensors
from mmdiff_video.datasets.video_reader import (
    VideoError,
    count_frames,
    frame_rate,
    iterate_frames,
)
from mmdiff_video.dense.inputs import Input, find_inputs
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.results import (
    REPORT,
    check_frames_folder,
    remove_other_form,
    results_of,
    write_picture,
    write_video,
    written_before,
)
from mmdiff_video.errors import InputError
from mmdiff_video.files import DISK_REFUSES, write_json
from mmdiff_video.outputs import results_folder
from mmdiff_video.skipped import Skipped

_MOST_ELONGATED = 8
"""Longer side of a picture over its shorter one, at most: the shorter one is brought to the run's
size, so that without a limit the longer one, and memory, would have none."""


@dataclass
class PredictReport:
    """What was done.

    Attributes:
        out: the folder.
        task: what was predicted.
        run: that predicted.
        file_format: what the files of the predictions hold.
        notice: what must be said of the backbone; empty for nothing.
        written: input -> the file or folder of its prediction.
        skipped: inputs that could not be used.
    """

    out: Path
    task: str
    run: str
    file_format: str
    notice: str
    written: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.task} of {len(self.written)} inputs in {self.out}"]
        lines += [f"skipped {key}: {reason}" for key, reason in self.skipped]
        return "\n".join([*lines, self.notice] if self.notice else lines)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write it in the end, whatever ends the work."""
        try:
            yield
        except BaseException:
            with suppress(OSError):  # a full disk, say: the first refusal is the one to tell of
                self._write()
            raise
        self._write()

    def _write(self) -> None:
        write_json(
            self.out / REPORT,
            {
                "task": self.task,
                "run": self.run,
                "format": self.file_format,
                "notice": self.notice,
                "written": self.written,
                "skipped": [entry._asdict() for entry in self.skipped],
            },
        )


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
    in folders below it) go into a folder of its name. What is wrong with one input is its reason in
    the report, and the others go on.

    Args:
        run: a run folder, or what :meth:`DenseModel.from_pretrained` takes.
        paths: pictures, videos, folders.
        out: where results go; held against other processes meanwhile.
        prompt: what the inputs show; None: the run's prompt.
        backbone: the run's, if it is loaded already.

    Raises:
        InputError: no such run, no input at all, results that would take the place of inputs or lie
            outside ``out``, or another process that writes there.
        OSError: the disk takes nothing more.
    """
    inputs, skipped = find_inputs(paths)
    if not inputs:
        more = f" (and {len(skipped) - 1} more are no inputs)" if len(skipped) > 1 else ""
        raise InputError(f"{skipped[0].reason}{more}")
    _refuse_overwriting(inputs, out)
    model = DenseModel.from_pretrained(run, backbone)
    task = model.setup.task
    report = PredictReport(out, task.name, str(run), task.file_format, model.setup.notice)
    report.skipped += skipped
    fault: Exception | None = None
    folders = {one.place.parts[0] for one in inputs if len(one.place.parts) > 1}
    with results_folder(out, "predict", *sorted(folders)), report.kept():
        before = written_before(out)
        for one in tqdm(inputs, desc="predict", unit="input", disable=None):
            try:
                work = _video if one.video else _picture
                result = work(model, one.path, out / one.place, prompt)
                remove_other_form(result, before)
                report.written[str(one.path)] = str(result)
            except (PictureError, VideoError, InputError) as error:
                report.skipped.append(Skipped(str(one.path), str(error)))
            # one file must not cost the work on all others, whatever a library makes of it
            except Exception as error:
                if isinstance(error, OSError) and error.errno in DISK_REFUSES:
                    raise
                fault = error
                reason = f"{type(error).__name__}: {error}"
                report.skipped.append(Skipped(str(one.path), reason))
        if fault is not None and not report.written:
            raise fault  # of the program, it seems, not of the inputs
    return report


def _refuse_overwriting(inputs: Sequence[Input], out: Path) -> None:
    given = {os.path.realpath(one.path) for one in inputs}
    for one in inputs:
        if one.video:
            check_frames_folder(out / one.place)
        for result in results_of(out / one.place, one.video):
            if os.path.realpath(result) in given:
                raise InputError(
                    f"the result '{result}' would take the place of an input: choose another --out"
                )


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
