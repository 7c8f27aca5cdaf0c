"""Look at a whole data set before training on it: every camera, every frame, and a picture.

A clip counts as usable when all its frames decode and some span of the card's lengths gives a
sample; so what training or evaluation would leave out is listed here with the same reason.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_high

import torch
from tqdm import tqdm

from mmdiff_video.datasets.captions import read_captions
from mmdiff_video.datasets.clips.camera_picture import draw_cameras
from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.clips.clip import ClipError, LoadedClips, PosedClip
from mmdiff_video.datasets.clips.world import fit_spans
from mmdiff_video.datasets.names import shown
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json
from mmdiff_video.skipped import Skipped, listed

_DECODE_BYTES = 256 * 2**20  # pictures held at a time
_SHOWN = 20  # the JSON has all of them
_DRAWN_CLIPS = 4


@dataclass(frozen=True, kw_only=True)
class ClipSummary:
    """One usable clip. Lengths are in file units, the angle in degrees.

    Attributes:
        key: names the clip.
        frames: how many.
        width, height: pixels.
        focal: fx of the first camera, divided by the image width.
        path: length of the camera's path.
        baseline: distance between its ends.
        turn: angle between the first and the last camera.
        fit_spans: share of the spans of the card's lengths, from 0 (excluded) to 1, whose cameras
            give a sample. Training tries 20 spans an epoch, and skips the clip where none does.
    """

    key: str
    frames: int
    width: int
    height: int
    focal: float
    path: float
    baseline: float
    turn: float
    fit_spans: float


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What was found in one split; ``problem`` says why it could not be looked into at all."""

    split: str
    clips: list[ClipSummary]
    skipped: list[Skipped]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """The whole check.

    Attributes:
        name: of the dataset card.
        root: the data root.
        splits: in the card's order.
        shared: keys of clips that lie in more than one split; scores on them would mean nothing.
        picture: the drawn camera paths; None when no clip is usable.
        captions: what is wrong with the root's captions, which ends every training; None: nothing.
    """

    name: str
    root: str
    splits: list[SplitReport]
    shared: list[str]
    picture: str | None
    captions: str | None

    @property
    def usable(self) -> int:
        """Number of usable clips in all splits."""
        return sum(len(split.clips) for split in self.splits)

    def table(self) -> str:
        """Format the report for a terminal."""
        lines = [
            f"{self.name} in {self.root}",
            f"{'split':<8}{'usable':>7}{'skipped':>9}{'frames':>8}  {'size':<12}{'focal':>6}"
            f"{'baseline (min/median/max)':>28}{'path':>8}{'turn':>7}",
        ]
        for split in self.splits:
            lines.append(f"{split.split:<8}{len(split.clips):>7}{len(split.skipped):>9}")
            if split.clips:
                lines[-1] += _columns(split.clips)
            if split.problem:
                lines.append(f"  {split.problem}")
            lines += listed(split.skipped)
        if self.shared:
            lines.append(f"in more than one split: {', '.join(self.shared[:_SHOWN])}")
        lines += _partly_fit([clip for split in self.splits for clip in split.clips])
        lines.append("focal in image widths, baseline and path in file units, turn in degrees")
        return "\n".join(lines)


def check_dataset(
    card: DatasetCard, root: Path, out: Path, read: Callable[[Path, str], LoadedClips]
) -> DatasetReport:
    """Check every clip of every split, decode all frames, print a table, write a report.

    Args:
        card: of the data set.
        root: the data root.
        out: folder that receives ``report.json`` and ``cameras.png``.
        read: the card's reader: (root, split) -> clips.

    Raises:
        InputError: a root in which no split can be looked into; or, when all is written and
            printed, captions that cannot be used.
    """
    reports: list[SplitReport] = []
    drawn: list[PosedClip] = []
    for split in card.splits:
        try:
            loaded = read(root, split)
        except InputError as error:
            reports.append(SplitReport(split=split, clips=[], skipped=[], problem=str(error)))
            continue
        usable, summaries, broken = _check_all(loaded.clips, card, f"decoding {split}")
        drawn += usable
        skipped = sorted([*loaded.skipped, *broken])
        reports.append(SplitReport(split=split, clips=summaries, skipped=skipped))
    if all(report.problem for report in reports):
        raise InputError(str(reports[0].problem))
    picture = None
    out.mkdir(parents=True, exist_ok=True)
    if drawn:
        picture = out / "cameras.png"
        draw_cameras(_spread_out(drawn), picture)
    captions = _captions_problem(root)
    found = Counter(clip.key for report in reports for clip in report.clips)
    report = DatasetReport(
        name=card.name,
        root=shown(str(root)),
        splits=reports,
        shared=sorted(key for key, times in found.items() if times > 1),
        picture=shown(str(picture)) if picture else None,
        captions=captions,
    )
    write_json(out / "report.json", {"usable": report.usable, **_plain(report)})
    print(report.table())
    print(f"report: {shown(str(out / 'report.json'))}")
    if report.picture:
        print(f"camera paths: {report.picture}")
    if captions:
        raise InputError(captions)
    return report


def _captions_problem(root: Path) -> str | None:
    try:
        read_captions(root)
    except InputError as error:
        return shown(str(error))
    return None


def _check_all(
    clips: list[PosedClip], card: DatasetCard, title: str
) -> tuple[list[PosedClip], list[ClipSummary], list[Skipped]]:
    usable: list[PosedClip] = []
    summaries: list[ClipSummary] = []
    broken: list[Skipped] = []
    for clip in tqdm(clips, desc=title, unit="clip", disable=None, leave=False):
        block = max(_DECODE_BYTES // (clip.height * clip.width * 3), 1)
        try:
            for start in range(0, clip.num_frames, block):
                clip.read(range(start, min(start + block, clip.num_frames)))
            summaries.append(_summary(clip, fit_spans(clip, card)))
            usable.append(clip)
        except ClipError as error:
            broken.append(Skipped(clip.key, str(error)))
    return usable, summaries, broken


def _summary(clip: PosedClip, fit: float) -> ClipSummary:
    centres = clip.centres()
    relative = clip.viewmats[-1, :3, :3] @ clip.viewmats[0, :3, :3].T
    cosine = ((relative.trace() - 1) / 2).clamp(-1, 1)
    return ClipSummary(
        key=clip.key,
        frames=clip.num_frames,
        width=clip.width,
        height=clip.height,
        focal=float(clip.intrinsics[0, 0]),
        path=float((centres[1:] - centres[:-1]).norm(dim=1).sum()),
        baseline=float((centres[-1] - centres[0]).norm()),
        turn=float(torch.rad2deg(torch.acos(cosine))),
        fit_spans=fit,
    )


def _columns(clips: list[ClipSummary]) -> str:
    sizes = sorted({f"{clip.width}x{clip.height}" for clip in clips})
    size = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes"
    baselines = sorted(clip.baseline for clip in clips)
    spread = "/".join(f"{b:.3g}" for b in (baselines[0], median_high(baselines), baselines[-1]))
    return (
        f"{sum(clip.frames for clip in clips):>8}  {size:<12}"
        f"{median_high([clip.focal for clip in clips]):>6.3f}{spread:>28}"
        f"{median_high([clip.path for clip in clips]):>8.3g}"
        f"{median_high([clip.turn for clip in clips]):>7.1f}"
    )


def _partly_fit(clips: list[ClipSummary]) -> list[str]:
    """Lines on the clips that training or evaluation may leave out; worst first."""
    partly = sorted((clip for clip in clips if clip.fit_spans < 1), key=lambda c: c.fit_spans)
    lines = [
        f"  {clip.key}: only {clip.fit_spans:.1%} of its spans give a sample"
        for clip in partly[:_SHOWN]
    ]
    return [*lines, *([f"  ... and {len(partly) - _SHOWN} more"] if len(partly) > _SHOWN else [])]


def _spread_out(clips: list[PosedClip]) -> list[PosedClip]:
    """A few clips, evenly over all of them."""
    count = min(len(clips), _DRAWN_CLIPS)
    return [clips[(2 * i + 1) * len(clips) // (2 * count)] for i in range(count)]


def _plain(report: DatasetReport) -> dict:
    plain = asdict(report)
    for split in plain["splits"]:
        split["skipped"] = [entry._asdict() for entry in split["skipped"]]
    return plain
