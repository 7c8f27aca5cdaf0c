"""Look at every labelled picture of a data set before training on it."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.card import ImageCard, load_image_card
from mmdiff_video.datasets.pictures.labelled import Classes, LabelledImage, LoadedImages
from mmdiff_video.datasets.pictures.loading import load_images
from mmdiff_video.datasets.roots import find_root
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json
from mmdiff_video.skipped import Skipped
from mmdiff_video.tables import format_table

_REASONS_SHOWN = 20  # the JSON has all of them


@dataclass(frozen=True, kw_only=True)
class ImageSplitReport:
    """What was found in one split for one task.

    Attributes:
        split, task: which.
        usable: pictures that can be read, with their labels.
        skipped: key and reason of the others.
        captions: how many of the usable have one.
        sizes: ``WIDTHxHEIGHT`` -> pictures.
        labelled: share of the pixels with a label (not void, depth known).
        values: share of the labelled pixels per class name; for depth ``min``, ``median`` (of the
            pictures' medians) and ``max`` in metres; for saliency the ``salient`` share.
        note: how the split was chosen, where the reader has something to say.
        problem: why the split could not be looked into at all.
    """

    split: str
    task: str
    usable: int = 0
    skipped: tuple[Skipped, ...] = ()
    captions: int = 0
    sizes: dict[str, int]
    labelled: float = 0.0
    values: dict[str, float]
    note: str = ""
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageDatasetReport:
    """The whole check.

    Attributes:
        name: of the card.
        root: the data root.
        splits: one report for each split and task that could be there.
        shared: keys in both the training and the held-out split; scores on them mean nothing.
    """

    name: str
    root: str
    splits: list[ImageSplitReport]
    shared: list[str]

    @property
    def usable(self) -> int:
        """Number of usable pictures in all splits."""
        return sum(report.usable for report in self.splits)

    def table(self) -> str:
        """Lay the report out for a terminal."""
        rows = [
            [
                f"{r.split} ({r.task})",
                str(r.usable),
                str(len(r.skipped)),
                str(r.captions),
                next(iter(r.sizes)) if len(r.sizes) == 1 else f"{len(r.sizes)} sizes",
                f"{100 * r.labelled:.1f} %",
            ]
            for r in self.splits
        ]
        header = ["split", "usable", "skipped", "captions", "size", "labelled"]
        lines = [format_table(header, rows, title=f"{self.name} in {self.root}"), ""]
        for report in self.splits:
            where = f"{report.split} ({report.task})"
            lines += [f"{where}: {text}" for text in (report.problem, report.note) if text]
            if report.values:
                unit = " m" if report.task == "depth" else " %"
                scale = 1 if report.task == "depth" else 100
                values = (f"{name} {scale * v:.3g}{unit}" for name, v in report.values.items())
                lines.append(f"{where}: {', '.join(values)}")
            shown = report.skipped[:_REASONS_SHOWN]
            lines += [f"  skipped {key}: {why}" for key, why in shown]
            if (more := len(report.skipped) - len(shown)) > 0:
                lines.append(f"  ... and {more} more")
        if self.shared:
            lines.append(f"in more than one split: {', '.join(self.shared[:_REASONS_SHOWN])}")
        return "\n".join(lines)


def check_images(name: str, root: Path | None, out: Path) -> ImageDatasetReport:
    """Decode every picture and label of every split, print a table, write ``report.json``.

    Args:
        name: a card of labelled pictures.
        root: the data root; None: see :func:`mmdiff_video.datasets.roots.find_root`.
        out: folder that receives the report.

    Raises:
        InputError: unknown data set, or a root in which no split can be looked into.
    """
    card = load_image_card(name)
    root = find_root(card, root)
    reports: list[ImageSplitReport] = []
    keys: dict[tuple[str, str], set[str]] = {}
    for split in card.splits:
        for task in card.tasks:
            try:
                loaded = load_images(card, root, split, task)
            except InputError as error:
                problem = str(error)
                reports.append(
                    ImageSplitReport(split=split, task=task, sizes={}, values={}, problem=problem)
                )
                continue
            reports.append(_look(card, loaded, split, task))
            keys[split, task] = {image.key for image in loaded.images}
    if not keys:
        raise InputError(str(reports[0].problem))
    both = (keys.get((card.train, task), set()) & keys.get((card.held_out, task), set())
            for task in card.tasks)  # fmt: skip
    report = ImageDatasetReport(
        name=name, root=str(root), splits=reports, shared=sorted(set().union(*both))
    )
    write_json(out / "report.json", {"usable": report.usable, **_plain(report)})
    print(report.table())
    print(f"report: {out / 'report.json'}")
    return report


def _look(card: ImageCard, loaded: LoadedImages, split: str, task: str) -> ImageSplitReport:
    skipped = list(loaded.skipped)
    usable: list[LabelledImage] = []
    sizes: Counter[str] = Counter()
    tally = _Tally(card, loaded.classes)
    bar = tqdm(loaded.images, desc=f"reading {split}", unit="picture", disable=None, leave=False)
    for image in bar:
        try:
            _, label = image.read()
        except PictureError as error:
            skipped.append(Skipped(image.key, str(error)))
            continue
        usable.append(image)
        sizes[f"{label.shape[1]}x{label.shape[0]}"] += 1
        tally.add(label, task)
    return ImageSplitReport(
        split=split,
        task=task,
        usable=len(usable),
        skipped=tuple(sorted(skipped)),
        captions=sum(image.caption is not None for image in usable),
        sizes=dict(sizes.most_common()),
        labelled=tally.labelled / max(tally.pixels, 1),
        values=tally.values(task),
        note=loaded.note,
    )


class _Tally:
    """What the labels hold, over all pictures."""

    def __init__(self, card: ImageCard, classes: Classes | None):
        self.card, self.classes = card, classes
        self.pixels = self.labelled = 0
        self.counts = np.zeros(256, np.int64)
        self.medians: list[float] = []
        self.lowest, self.highest = np.inf, 0.0

    def add(self, label: np.ndarray, task: str) -> None:
        self.pixels += label.size
        if task == "depth":
            known = label[label > 0]
            self.labelled += known.size
            if known.size:
                self.medians.append(float(np.median(known)))
                self.lowest = min(self.lowest, float(known.min()))
                self.highest = max(self.highest, float(known.max()))
            return
        counts = np.bincount(label.astype(np.uint8).reshape(-1), minlength=256)
        void = self.classes.void if self.classes else None
        self.labelled += label.size - (int(counts[void]) if void is not None else 0)
        self.counts += counts

    def values(self, task: str) -> dict[str, float]:
        if not self.labelled:
            return {}
        if task == "depth":
            middle = float(np.median(self.medians))
            return {"min": self.lowest, "median": middle, "max": self.highest}
        if self.classes is None:
            return {"salient": float(self.counts[1] / self.labelled)}
        names = self.classes.names
        return {name: float(self.counts[i] / self.labelled) for i, name in enumerate(names)}


def _plain(report: ImageDatasetReport) -> dict:
    plain = asdict(report)
    for split in plain["splits"]:
        split["skipped"] = [{"key": key, "reason": reason} for key, reason in split["skipped"]]
    return plain
