"""Video to 3DGS on rooms: features against the latent, trained against random weights."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmdiff_video.datasets.rooms.make import make_rooms
from mmdiff_video.errors import InputError
from mmdiff_video.nvs.compare import compare_3dgs
from mmdiff_video.nvs.evaluate import eval_3dgs
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.nvs.train import train_3dgs

SIZE = 128
"""Pixels a side of the clips."""

ARMS = ("latent", "latent-wide", "features", "features-random")


@dataclass(frozen=True, kw_only=True)
class NVSBudget:
    """Equal for all arms.

    Attributes:
        scenes: rooms, a fifth of which are held out.
        frames: of a clip.
        steps: of training.
    """

    scenes: int = 160
    frames: int = 40
    steps: int = 1000


def run_seed(
    out: Path, backbone: str, random_twin: str, budget: NVSBudget, seed: int
) -> dict[str, dict[str, Any]]:
    """Train and score all arms from one seed; arm -> its eval.json with ``parameters``.

    What is done already is kept, and a half-trained arm goes on.
    """
    root = make_rooms(
        out / "rooms", scenes=budget.scenes, frames=budget.frames, width=SIZE, height=SIZE
    )
    config = resolve_config(
        "3dgs-nano",
        [
            f"backbone.name={backbone}",
            "data.name=rooms",
            f"data.root={root}",
            f"data.height={SIZE}",
            f"data.width={SIZE}",
            f"data.span=[{budget.frames // 2},{budget.frames}]",
            f"train.steps={budget.steps}",
            f"train.seed={seed}",
            f"train.preview_every={budget.steps}",
            f"cache.dir={out / 'feature-cache'}",
        ],
    )
    folder = out / f"seed-{seed}"
    compare_3dgs(config, folder)
    run = folder / "features-random"
    if not (run / "eval.json").is_file():
        twin = replace(config, backbone=replace(config.backbone, name=random_twin))
        result = train_3dgs(twin, run, resume=(run / "metrics.jsonl").exists())
        if not result.finished:
            raise InputError(f"stopped in {run}; the same command goes on from there")
        eval_3dgs(run)
    return {arm: _report(folder / arm) for arm in ARMS}


def _report(run: Path) -> dict[str, Any]:
    parameters = json.loads((run / "run.json").read_text())["parameters"]["total"]
    return {**json.loads((run / "eval.json").read_text()), "parameters": parameters}
