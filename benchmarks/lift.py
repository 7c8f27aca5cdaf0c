"""Are labels better when views are fused in a scene? Against the truth of rooms.

    mmdiff-video dense --task seg --data rooms --out runs/seg cache.dir=features train.steps=300
    OMP_NUM_THREADS=1 python benchmarks/lift.py --head runs/seg       # laptop: two minutes a room
    python benchmarks/lift.py --head runs/seg --rooms 20 --steps 1000 # a better fit, more rooms

Each room is one that neither head nor backbone was trained on. Of its walk, with the true cameras,
every fourth frame is held out; Gaussians are fitted to the others (``recon.fit``), and what is seen
in those frames is fused on the Gaussians (``recon.lift``) and rendered into the held-out views.
Compared there with the true labels:

- the head alone, which looks at the held-out picture itself;
- the head fused, which sees the other pictures only;
- true labels fused: the most that this geometry can give;
- true labels of which a share of the pixels, or of blocks of 16 pixels, got a random class, alone
  and fused: errors that do not depend on what is seen, so that views vote them down;
- the most frequent class of the training frames: constant.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from figures import Figure, processor_name, write_report
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.rooms import CLASSES, RoomClip, draw_room, make_room
from mmdiff_video.tasks.seg import SegLossConfig, Segmentation
from recon.fit import Fit, FitConfig, FitViews
from recon.fit.starts import Units, start
from recon.gaussians import Gaussians
from recon.lift import lift_maps, render_channels

FIRST_ROOM = 500
"""Rooms of the split ``test`` from here on: no run trains or is scored on so many."""

HELD_OUT_EVERY = 4
POINTS_PER_VIEW = 40
"""True surface points that a fit starts with, about as many as COLMAP finds."""

WRONG = 0.3
"""Share of the true labels that are replaced by random ones."""
BLOCK = 16
COUNT = len(CLASSES)

T = TypeVar("T")


@dataclass(frozen=True)
class Frames:
    """Frames of a room: float [V, 3, H, W], labels [V, H, W], cameras."""

    images: Tensor
    labels: Tensor
    viewmats: Tensor
    Ks: Tensor

    @classmethod
    def of(cls, clip: RoomClip, numbers: Sequence[int]) -> "Frames":
        chosen = list(numbers)
        return cls(
            torch.from_numpy(clip.rgb[chosen]).movedim(-1, 1).float() / 255,
            torch.from_numpy(clip.labels[chosen]).long(),
            torch.from_numpy(clip.viewmats[chosen]).float(),
            torch.from_numpy(clip.Ks[chosen]).float(),
        )

    def views(self) -> FitViews:
        pixels = (self.images * 255).round().to(torch.uint8).movedim(1, -1).contiguous()
        return FitViews(pixels, self.viewmats, self.Ks)


def main() -> None:
    parser = argparse.ArgumentParser(description="Labels of a scene against those of one frame.")
    parser.add_argument("--head", type=Path, required=True, help="a run of dense --task seg")
    parser.add_argument("--rooms", type=int, default=5)
    parser.add_argument("--frames", type=int, default=24, help="of a walk")
    parser.add_argument("--size", type=int, default=192, help="pixels of a side")
    parser.add_argument("--gaussians", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=400, help="of the fit")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    model = DenseModel.from_pretrained(args.head)
    rooms = []
    for number in tqdm(range(FIRST_ROOM, FIRST_ROOM + args.rooms), unit="room", disable=None):
        clip = draw_room(make_room("test", number), args.frames, args.size, args.size)
        rooms.append(measure(model, clip, args.gaussians, args.steps))
        print(number, {name: round(value, 2) for name, value in rooms[-1].items()}, flush=True)
    print(table(rooms))
    if args.json:
        settings = {name: getattr(args, name) for name in ("frames", "size", "gaussians", "steps")}
        write_report(args.json, "lift", figures(rooms), {**settings, "rooms": rooms})


def measure(model: DenseModel, clip: RoomClip, count: int, steps: int) -> dict[str, float]:
    """mIoU of every arm in a room, its accuracy, PSNR of the fit, and seconds."""
    numbers = range(len(clip.rgb))
    held = [n for n in numbers if n % HELD_OUT_EVERY == HELD_OUT_EVERY // 2]
    seen, unseen = Frames.of(clip, [n for n in numbers if n not in held]), Frames.of(clip, held)
    seconds: dict[str, float] = {}
    gaussians, psnr = _timed(seconds, "fit", lambda: fit(clip, seen, unseen, count, steps))
    by_head = _timed(seconds, "heads", lambda: asked(model, seen))
    rng = torch.Generator().manual_seed(0)
    arms: dict[str, Tensor] = {
        "constant": torch.full_like(unseen.labels, int(seen.labels.flatten().mode().values)),
        "head alone": asked(model, unseen).argmax(1),
        "head fused": _timed(seconds, "lift", lambda: fused(gaussians, seen, unseen, by_head)),
        "truth fused": fused(gaussians, seen, unseen, one_hot(seen.labels)),
    }
    for kind, block in (("pixels", 1), ("blocks", BLOCK)):
        arms[f"wrong {kind} alone"] = spoiled(unseen.labels, block, rng)
        wrong = one_hot(spoiled(seen.labels, block, rng))
        arms[f"wrong {kind} fused"] = fused(gaussians, seen, unseen, wrong)
    found: dict[str, float] = {}
    for name, labels in arms.items():
        scores = score(labels, unseen.labels)
        found[f"mIoU {name}"] = scores["mIoU"]
        found[f"accuracy {name}"] = scores["accuracy"]
    return found | {"PSNR": psnr} | {f"seconds {name}": value for name, value in seconds.items()}


def asked(model: DenseModel, frames: Frames) -> Tensor:
    """Probabilities of the head for each frame by itself, [V, K, H, W]."""
    return torch.cat([model.outputs(image[None]).softmax(1) for image in frames.images])


def fit(
    clip: RoomClip, seen: Frames, unseen: Frames, count: int, steps: int
) -> tuple[Gaussians, float]:
    """Fit a scene to the training frames; also the PSNR of the held-out ones."""
    rng = torch.Generator().manual_seed(0)
    views = seen.views()
    points, rgb = surface_points(clip, rng)
    units = Units.of(views, points)
    inner = units.views(views)
    config = FitConfig(steps=steps, max_gaussians=count)
    work = Fit(inner, start(inner, units.points(points), rgb, count, rng), config)
    work.run(steps)
    held = units.views(unseen.views())
    drawn = work.render(held.viewmats, held.Ks, held.width, held.height).clamp(0, 1)
    error = float((drawn - held.images / 255).square().mean())
    return units.back(work.scene.gaussians()), -10 * math.log10(error)


def surface_points(clip: RoomClip, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """True points [N, 3] of the surfaces and their colours, uint8 [N, 3]."""
    height, width = clip.depth.shape[1:]
    points, colors = [], []
    for depth, rgb, viewmat, K in zip(clip.depth, clip.rgb, clip.viewmats, clip.Ks, strict=True):
        rows = torch.randint(height, (POINTS_PER_VIEW,), generator=rng)
        columns = torch.randint(width, (POINTS_PER_VIEW,), generator=rng)
        pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones(POINTS_PER_VIEW)], 1).double()
        z = torch.from_numpy(depth)[rows, columns].double()
        inside = pixels @ torch.linalg.inv(torch.from_numpy(K)).T * z[:, None]
        pose = torch.from_numpy(viewmat)
        points.append((inside - pose[:3, 3]) @ pose[:3, :3])
        colors.append(torch.from_numpy(rgb)[rows, columns])
    return torch.cat(points).float(), torch.cat(colors)


def fused(gaussians: Gaussians, seen: Frames, unseen: Frames, maps: Tensor) -> Tensor:
    """Lift maps [V, K, H, W] of the training frames; labels [V', H, W] of the held-out views."""
    found = lift_maps(gaussians, maps.movedim(1, -1), seen.viewmats, seen.Ks)
    height, width = unseen.labels.shape[1:]
    rendered = render_channels(gaussians, found.channels, unseen.viewmats, unseen.Ks, width, height)
    return rendered.image.argmax(-1)


def one_hot(labels: Tensor) -> Tensor:
    """[V, K, H, W]."""
    return F.one_hot(labels, COUNT).movedim(-1, 1).float()


def spoiled(labels: Tensor, block: int, rng: torch.Generator) -> Tensor:
    """Give a share of the blocks of pixels a random class, each block one."""
    views, height, width = labels.shape
    small = views, -(-height // block), -(-width // block)
    wrong = torch.rand(small, generator=rng) < WRONG
    classes = torch.randint(COUNT, small, generator=rng)

    def large(values: Tensor) -> Tensor:
        whole = values.repeat_interleave(block, 1).repeat_interleave(block, 2)
        return whole[:, :height, :width]

    return torch.where(large(wrong), large(classes), labels)


def score(labels: Tensor, truth: Tensor) -> Mapping[str, float]:
    """mIoU over the classes that truth or labels have, and accuracy, in percent."""
    names, colors = zip(*CLASSES, strict=True)
    scores = Segmentation(Classes(names, colors), SegLossConfig()).scores()
    for found, true in zip(labels, truth, strict=True):
        scores.add(found[None], true[None], torch.ones_like(true, dtype=torch.bool))
    return scores.compute()


def table(rooms: Sequence[Mapping[str, float]]) -> str:
    """Mean and standard deviation over the rooms, and in how many fusing is better."""
    names = [name.removeprefix("mIoU ") for name in rooms[0] if name.startswith("mIoU ")]
    lines = [
        f"{len(rooms)} rooms, {processor_name()}, {torch.get_num_threads()} threads",
        "| held-out views | mIoU % | accuracy % |",
        "|---|---:|---:|",
    ]
    for name in names:
        cells = [_mean(rooms, f"{metric} {name}") for metric in ("mIoU", "accuracy")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    for kind in ("head", "wrong pixels", "wrong blocks"):
        gains = _gains(rooms, kind)
        better = sum(gain > 0 for gain in gains)
        mean, spread = statistics.mean(gains), _deviation(gains)
        lines.append(
            f"{kind}: fused - alone {mean:+.2f} ± {spread:.2f} mIoU, better in {better} of"
            f" {len(gains)} rooms"
        )
    parts = [f"{name} {_mean(rooms, f'seconds {name}')} s" for name in ("fit", "heads", "lift")]
    lines.append(f"PSNR {_mean(rooms, 'PSNR')} dB; " + ", ".join(parts))
    return "\n".join(lines)


def figures(rooms: Sequence[Mapping[str, float]]) -> list[Figure]:
    """For ``compare.py``; spreads are standard errors of the mean."""
    made = []
    for name in rooms[0]:
        values = [room[name] for room in rooms]
        unit = "s" if name.startswith("seconds") else "dB" if name == "PSNR" else "%"
        made.append(
            Figure(
                name=name,
                value=statistics.mean(values),
                unit=unit,
                better="less" if unit == "s" else "more",
                repeats=len(values),
                spread=_deviation(values) / math.sqrt(len(values)),
            )
        )
    return made


def _gains(rooms: Sequence[Mapping[str, float]], kind: str) -> list[float]:
    return [room[f"mIoU {kind} fused"] - room[f"mIoU {kind} alone"] for room in rooms]


def _mean(rooms: Sequence[Mapping[str, float]], name: str) -> str:
    values = [room[name] for room in rooms]
    return f"{statistics.mean(values):.2f} ± {_deviation(values):.2f}"


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _timed(
    seconds: dict[str, float], name: str, work: Callable[[], T]
) -> T:  # CPU seconds: others use the machine
    began = time.process_time()
    result = work()
    seconds[name] = time.process_time() - began
    return result


if __name__ == "__main__":
    main()
