"""Dense probes on rooms stills: what segmentation and depth a frozen backbone's features hold.

A probe is an aggregator over the tapped layers and a small convolutional head for both tasks at
once. It trains for the same steps on the same pictures in every arm; only what it reads, or how the
timesteps are mixed, differs between arms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mmdiff_video.backbones import Backbone
from mmdiff_video.features.aggregators import build_aggregator
from mmdiff_video.files import write_aside
from mmdiff_video.rooms import CLASSES, draw_rooms, make_room

LABEL_SIZE = 64
"""Pixels a side at which the probes are trained and scored."""


@dataclass(frozen=True, kw_only=True)
class DenseBudget:
    """Equal for all arms.

    Attributes:
        train, test: rooms, one still of each.
        steps, batch, lr: AdamW with a cosine schedule.
        width: channels D of the aggregators and of the head.
    """

    train: int = 512
    test: int = 128
    steps: int = 400
    batch: int = 16
    lr: float = 1e-3
    width: int = 64


class Stills(NamedTuple):
    """Pictures with ground truth: rgb uint8 [N, 3, H, W], labels [N, S, S], depth [N, S, S] m."""

    rgb: Tensor
    labels: Tensor
    depth: Tensor
    captions: list[str]


class Arm(NamedTuple):
    """One thing that is compared: how features are mixed, and which timesteps there are."""

    name: str
    aggregation: str
    timesteps: tuple[float, ...]


class DenseScores(NamedTuple):
    """On the test pictures; mIoU in percent over the classes that occur."""

    miou: float
    absrel: float
    delta1: float
    parameters: int


def dense_arms(timesteps: Sequence[float]) -> list[Arm]:
    """Claims 2 and 3: all timesteps against each single one, and the ways of mixing them."""
    every = tuple(timesteps)
    arms = [Arm(name, name, every) for name in ("adaptive", "mean", "concat", "static")]
    return arms + [Arm(f"t={t:g} alone", "single", (t,)) for t in every]


def rooms_stills(folder: Path, split: str, count: int, size: int) -> Stills:
    """Draw stills once and keep them in ``folder``."""
    path = folder / f"rooms-{split}-{count}-{size}.npz"
    if not path.is_file():
        rooms = [make_room(split, i) for i in range(count)]
        clips = draw_rooms(rooms, frames=1, height=size, width=size)
        rgb, labels, depth, captions = [], [], [], []
        for clip in tqdm(clips, total=count, desc=f"rooms {split}", unit="picture", disable=None):
            # the middle pixel of each cell: labels cannot be averaged
            cells = slice(size // LABEL_SIZE // 2, None, size // LABEL_SIZE)
            rgb.append(clip.rgb[0])
            labels.append(clip.labels[0, cells, cells])
            depth.append(clip.depth[0, cells, cells])
            captions.append(clip.caption)
        folder.mkdir(parents=True, exist_ok=True)
        with write_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, rgb=rgb, labels=labels, depth=depth, captions=captions)
    with np.load(path) as data:
        return Stills(
            torch.from_numpy(data["rgb"]).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(data["labels"]).long(),
            torch.from_numpy(data["depth"]).float(),
            [str(caption) for caption in data["captions"]],
        )


def read_features(backbone: Backbone, stills: Stills, batch: int = 8) -> dict[str, Tensor]:
    """Tap -> [N, T, C, 1, H, W] in bfloat16, prompted with each picture's caption."""
    parts: dict[str, list[Tensor]] = {}
    for start in tqdm(
        range(0, len(stills.rgb), batch), desc=f"read {backbone.name}", unit="batch", disable=None
    ):
        rows = slice(start, start + batch)
        found = backbone.extract(
            stills.rgb[rows, :, None].float() / 255,
            stills.captions[rows],
            keys=[f"still-{i}" for i in range(len(stills.rgb))[rows]],
        )
        for tap, maps in found.maps.items():
            parts.setdefault(tap, []).append(maps.to(torch.bfloat16).cpu())
    return {tap: torch.cat(maps) for tap, maps in parts.items()}


class Probe(nn.Module):
    """Fused maps of all layers to class scores and log depth at LABEL_SIZE."""

    def __init__(self, aggregator: nn.Module, channels: int, width: int):
        super().__init__()
        self.aggregator = aggregator
        self.head = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GELU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, len(CLASSES) + 1, 1),
        )

    def forward(self, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tap -> [B, T, C, 1, H, W] to scores [B, K, S, S] and log depth [B, S, S]."""
        fused = torch.cat(list(self.aggregator(maps).values()), 1)[:, :, 0]
        out = F.interpolate(self.head(fused), size=(LABEL_SIZE, LABEL_SIZE), mode="bilinear")
        return out[:, :-1], out[:, -1]


def run_probe(
    arm: Arm,
    budget: DenseBudget,
    all_timesteps: Sequence[float],
    train: tuple[dict[str, Tensor], Stills],
    test: tuple[dict[str, Tensor], Stills],
    seed: int,
) -> DenseScores:
    """Train one probe from a seed and score it."""
    torch.manual_seed(seed)
    chosen = [list(all_timesteps).index(t) for t in arm.timesteps]
    features, truth = train
    settings = {"dropout": 0.0} if arm.aggregation == "adaptive" else {}
    aggregator = build_aggregator(
        arm.aggregation,
        layers={tap: maps.shape[2] for tap, maps in features.items()},
        timesteps=arm.timesteps,
        width=budget.width,
        **settings,
    )
    probe = Probe(aggregator, len(features) * budget.width, budget.width)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=budget.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, budget.lr, total_steps=budget.steps, pct_start=0.05
    )
    order = torch.Generator().manual_seed(seed)
    count = len(truth.labels)
    for _ in tqdm(range(budget.steps), desc=f"{arm.name}, seed {seed}", leave=False, disable=None):
        rows = torch.randperm(count, generator=order)[: budget.batch]
        scores, log_depth = probe({tap: maps[rows][:, chosen] for tap, maps in features.items()})
        depth = truth.depth[rows]
        error = (log_depth - depth.clamp_min(1e-3).log()).abs()
        loss = F.cross_entropy(scores, truth.labels[rows], ignore_index=255)
        loss = loss + error[depth > 0].mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return _score(probe, chosen, test)


@torch.no_grad()
def _score(probe: Probe, chosen: list[int], test: tuple[dict[str, Tensor], Stills]) -> DenseScores:
    probe.eval()
    features, truth = test
    classes = len(CLASSES)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    absrel, within, pixels = 0.0, 0, 0
    for rows in torch.arange(len(truth.labels)).split(16):
        scores, log_depth = probe({tap: maps[rows][:, chosen] for tap, maps in features.items()})
        labels, depth = truth.labels[rows], truth.depth[rows]
        known = labels < classes
        pairs = labels[known] * classes + scores.argmax(1)[known]
        confusion += pairs.bincount(minlength=classes**2).view(classes, classes)
        valid = depth > 0
        found, true = log_depth.exp()[valid], depth[valid]
        absrel += float(((found - true).abs() / true).sum())
        within += int((torch.maximum(found / true, true / found) < 1.25).sum())
        pixels += int(valid.sum())
    hits = confusion.diagonal().double()
    union = confusion.sum(0) + confusion.sum(1) - hits
    occurs = confusion.sum(1) > 0
    return DenseScores(
        miou=100 * float((hits / union)[occurs].mean()),
        absrel=absrel / pixels,
        delta1=within / pixels,
        parameters=sum(p.numel() for p in probe.parameters()),
    )
