"""Look at every labelled picture of a data set before training on it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import LabelledImage, LoadedImages
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json
from mmdiff_video.skipped import Skipped, listed
from mmdiff_video.tables import format_table

_SHARED_SHOWN = 20  # the JSON has all of them


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
        values: what the labels hold; see :class:`mmdiff_video.datasets.pictures.labels.Tally`.
        unit: of the values; empty: they are shares of the labelled pixels.
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
    unit: str = ""
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
        """Format the report for a terminal."""
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
                scale, unit = (1, report.unit) if report.unit else (100, "%")
                values = (f"{name} {scale * v:.3g} {unit}" for name, v in report.values.items())
                lines.append(f"{where}: {', '.join(values)}")
            lines += listed(report.skipped)
        if self.shared:
            lines.append(f"in more than one split: {', '.join(self.shared[:_SHARED_SHOWN])}")
        return "\n".join(lines)


def check_images(
    card: ImageCard,
    root: Path,
    out: Path,
    kinds: Sequence[Labels],
    load: Callable[[ImageCard, Path, str, Labels], LoadedImages],
) -> ImageDatasetReport:
    """Decode every picture and label of every split, print a table, write ``report.json``.

    Args:
        card: of the data set.
        root: the data root.
        out: folder that receives the report.
        kinds: what the card says the pictures are labelled with.
        load: (card, root, split, labels) -> pictures.

    Raises:
        InputError: a root in which no split can be looked into.
    """
    reports: list[ImageSplitReport] = []
    keys: dict[tuple[str, str], set[str]] = {}
    for split in card.splits:
        for labels in kinds:
            task = labels.name
            try:
                loaded = load(card, root, split, labels)
            except InputError as error:
                problem = str(error)
                reports.append(
                    ImageSplitReport(split=split, task=task, sizes={}, values={}, problem=problem)
                )
                continue
            reports.append(_look(card, loaded, split, labels))
            keys[split, task] = {image.key for image in loaded.images}
    if all(report.problem for report in reports):
        raise InputError(str(reports[0].problem))
    shared: set[str] = set()
    for kind in kinds:
        ours, theirs = (
            keys.get((split, kind.name), set()) for split in (card.train, card.held_out)
        )
        shared |= ours & theirs
    report = ImageDatasetReport(
        name=card.name, root=shown(root), splits=reports, shared=sorted(shared)
    )
    write_json(out / "report.json", {"usable": report.usable, **_plain(report)})
    print(report.table())
    print(f"report: {shown(out / 'report.json')}")
    return report


def _look(card: ImageCard, loaded: LoadedImages, split: str, labels: Labels) -> ImageSplitReport:
    skipped = list(loaded.skipped)
    usable: list[LabelledImage] = []
    sizes: Counter[str] = Counter()
    tally = labels.tally(loaded.classes)
    pixels = labelled = 0
    bar = tqdm(loaded.images, desc=f"reading {split}", unit="picture", disable=None, leave=False)
    for image in bar:
        try:
            _, label = image.read()
        except PictureError as error:
            skipped.append(Skipped(image.key, str(error)))
            continue
        usable.append(image)
        sizes[f"{label.shape[2]}x{label.shape[1]}"] += 1
        known = labels.target(label, card.void)[1].numpy()
        pixels, labelled = pixels + known.size, labelled + int(known.sum())
        tally.add(label, known)
    return ImageSplitReport(
        split=split,
        task=labels.name,
        usable=len(usable),
        skipped=tuple(sorted(skipped)),
        captions=sum(image.caption is not None for image in usable),
        sizes=dict(sizes.most_common()),
        labelled=labelled / max(pixels, 1),
        values=tally.values(),
        unit=tally.unit,
        note=loaded.note,
    )


def _plain(report: ImageDatasetReport) -> dict:
    plain = asdict(report)
    for split in plain["splits"]:
        split["skipped"] = [entry._asdict() for entry in split["skipped"]]
    return plain
