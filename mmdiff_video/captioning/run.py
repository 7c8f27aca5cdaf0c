"""``mmdiff-video caption``: fill the ``captions.jsonl`` of a data root."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmdiff_video.captioning.captioner import (
    DEFAULT_INSTRUCTION,
    DEFAULT_MODEL,
    Captioner,
    load_captioner,
)
from mmdiff_video.captioning.subjects import Subject, Subjects, find_subjects, root_of
from mmdiff_video.datasets.captions import CAPTIONS_FILE, CaptionFile
from mmdiff_video.datasets.clips.clip import ClipError
from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.errors import InputError
from mmdiff_video.locks import sole_writer
from mmdiff_video.process import processes, this_device
from mmdiff_video.skipped import Skipped, listed


@dataclass
class CaptionReport:
    """What was done.

    Attributes:
        title: of the data set.
        path: of the captions.
        model: that made them.
        written: captions of this run.
        there: captions that were there before.
        left: pictures beyond the limit.
        skipped: pictures that got none.
    """

    title: str
    path: Path
    model: str
    written: int = 0
    there: int = 0
    left: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def captioned(self) -> int:
        """Pictures of the data set with a caption."""
        return self.written + self.there

    def __str__(self) -> str:
        lines = [
            f"{self.title}: {self.written} captions by {self.model} added to {self.path},"
            f" {self.there} were there, {self.left} are still to come, {len(self.skipped)} skipped"
        ]
        return "\n".join([*lines, *listed(self.skipped)])


def caption_dataset(
    name: str,
    root: Path | None,
    *,
    model: str = DEFAULT_MODEL,
    instruction: str = DEFAULT_INSTRUCTION,
    max_new_tokens: int = 96,
    batch_size: int = 4,
    limit: int | None = None,
) -> CaptionReport:
    """Caption what has no caption yet, adding to the data root's file batch by batch.

    A run that was killed goes on where it was. The model is loaded only if there is work for it.

    Args:
        name: a data set, of labelled pictures or posed clips.
        root: the data root; None: see :func:`mmdiff_video.rooms.on_the_spot.find_or_make_root`.
        model, instruction, max_new_tokens: see
            :func:`mmdiff_video.captioning.captioner.load_captioner`.
        batch_size: pictures in one go.
        limit: at most this many pictures in this run.

    Raises:
        InputError: no such data or model, broken captions or ones that cannot be written, a number
            below 1, several processes, another one that captions there, pictures that do not fit
            into memory together.
    """
    for flag, value in (
        ("max-new-tokens", max_new_tokens),
        ("batch-size", batch_size),
        ("limit", limit),
    ):
        if value is not None and value < 1:
            raise InputError(f"--{flag} must be at least 1, not {value}")
    if processes().num_processes > 1:
        raise InputError("captions are written by one process: start it without a launcher")
    root = root_of(name, root)
    with sole_writer(root / CAPTIONS_FILE, "caption"):
        file = CaptionFile(root)  # mends it, so that the subjects can be read with their captions
        return _caption(
            find_subjects(name, root),
            file,
            model,
            lambda: load_captioner(
                model, instruction=instruction, max_new_tokens=max_new_tokens, device=this_device()
            ),
            batch_size,
            limit,
        )


def _caption(
    subjects: Subjects,
    file: CaptionFile,
    model: str,
    load: Callable[[], Captioner],
    batch_size: int,
    limit: int | None,
) -> CaptionReport:
    """Caption what the file has no caption of."""
    wanted = [subject for subject in subjects.found if subject.key not in file.captions]
    report = CaptionReport(subjects.title, file.path, model, skipped=list(subjects.skipped))
    report.there = len(subjects.found) - len(wanted)
    chosen = wanted[:limit]
    report.left = len(wanted) - len(chosen)
    if not chosen:
        return report
    captioner = load()
    with tqdm(total=len(chosen), desc="caption", unit="picture", disable=None) as bar:
        for start in range(0, len(chosen), batch_size):
            batch = chosen[start : start + batch_size]
            captions = _captions(captioner, batch, report)
            file.add(captions, model)
            report.written += len(captions)
            bar.update(len(batch))
    return report


def _captions(
    captioner: Captioner, batch: Sequence[Subject], report: CaptionReport
) -> dict[str, str]:
    """Caption what can be read of a batch; the rest goes to the report."""
    pictures: dict[str, NDArray[np.uint8]] = {}
    for subject in batch:
        try:
            pictures[subject.key] = subject.read()
        except (PictureError, ClipError) as error:
            report.skipped.append(Skipped(subject.key, str(error)))
    if not pictures:
        return {}
    captions = dict(zip(pictures, captioner(list(pictures.values())), strict=True))
    silent = [key for key, text in captions.items() if not text]
    report.skipped += [Skipped(key, "the model said nothing") for key in silent]
    return {key: text for key, text in captions.items() if text}
