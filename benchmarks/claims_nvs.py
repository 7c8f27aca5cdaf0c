"""Video to 3DGS on rooms: features against the latent, trained against random weights."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json
from mmdiff_video.nvs.compare import compare_3dgs
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.evaluate import eval_3dgs
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.nvs.train import train_3dgs
from mmdiff_video.rooms.make import make_rooms

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
        batch: clips in a step.
        ssim: weight of 1 - SSIM in the loss.
    """

    scenes: int = 160
    frames: int = 40
    steps: int = 1000
    batch: int = 1
    ssim: float = 0.2

    @property
    def folder(self) -> str:
        """Name of the folder of what was measured with it."""
        return f"nvs-{self.scenes}x{self.frames}-{self.steps}x{self.batch}-ssim-{self.ssim:g}"


LONGER = NVSBudget(scenes=400, batch=4)
MARGIN_BUDGETS = (
    NVSBudget(ssim=0.0),
    NVSBudget(),
    replace(LONGER, ssim=0.0),
    replace(LONGER, ssim=0.05),
    LONGER,
    replace(LONGER, ssim=0.05, steps=2000),
)
"""How the margin of features over the latent depends on training and loss."""


def run_seed(
    kept: Path, backbone: str, random_twin: str, budget: NVSBudget, seed: int
) -> dict[str, dict[str, Any]]:
    """Train and score all arms from one seed; arm -> its eval.json with ``parameters``.

    What is done already is kept, and a half-trained arm goes on.
    """
    config = _config(kept, backbone, budget, seed)
    folder = kept / budget.folder / f"seed-{seed}"
    compare_3dgs(config, folder)
    twin = replace(config, backbone=replace(config.backbone, name=random_twin))
    _train_and_score(twin, folder / "features-random")
    return {arm: _report(folder / arm) for arm in ARMS}


def run_margin(kept: Path, backbone: str, budget: NVSBudget, machine: str) -> dict[str, Any]:
    """Train and score the latent and the features with a budget, from seed 0.

    Returns:
        The budget, ``machine`` of the run, and the ``held_out`` scores of either arm.
    """
    config = _config(kept, backbone, budget, seed=0)
    folder = kept / budget.folder / "seed-0"
    for arm in ("latent", "features"):
        _train_and_score(replace(config, input=arm), folder / arm)
    if not (folder / "machine.json").is_file():  # a later call may be made elsewhere
        write_json(folder / "machine.json", machine)
    return {
        **asdict(budget),
        "machine": json.loads((folder / "machine.json").read_text()),
        "runs": {arm: _report(folder / arm)["held_out"] for arm in ("latent", "features")},
    }


def _config(kept: Path, backbone: str, budget: NVSBudget, seed: int) -> NVSConfig:
    root = make_rooms(
        kept / f"rooms-{budget.scenes}x{budget.frames}",
        scenes=budget.scenes,
        frames=budget.frames,
        width=SIZE,
        height=SIZE,
    )
    return resolve_config(
        "3dgs-nano",
        [
            ("backbone.name", backbone),
            "data.name=rooms",
            ("data.root", str(root)),
            f"data.height={SIZE}",
            f"data.width={SIZE}",
            f"data.span=[{budget.frames // 2},{budget.frames}]",
            f"loss.ssim={budget.ssim}",
            f"train.steps={budget.steps}",
            f"train.batch_size={budget.batch}",
            f"train.seed={seed}",
            f"train.preview_every={budget.steps}",
            ("cache.dir", str(kept / "feature-cache")),
        ],
    )


def _train_and_score(config: NVSConfig, run: Path) -> None:
    """Leave an eval.json in a run folder, unless there is one."""
    if (run / "eval.json").is_file():
        return
    result = train_3dgs(config, run, resume=(run / "metrics.jsonl").exists())
    if not result.finished:
        raise InputError(f"stopped in {run}; the same command goes on from there")
    eval_3dgs(run)


def _report(run: Path) -> dict[str, Any]:
    parameters = json.loads((run / "run.json").read_text())["parameters"]["total"]
    return {**json.loads((run / "eval.json").read_text()), "parameters": parameters}
