"""The dense tasks with their full heads: what features, concept maps and timesteps are worth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.config import Override
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.evaluate import eval_dense
from mmdiff_video.dense.joint import train_joint
from mmdiff_video.dense.setup import resolve_dense_config
from mmdiff_video.dense.task_data import TaskData
from mmdiff_video.dense.train import train_dense
from mmdiff_video.errors import InputError
from mmdiff_video.training import TrainResult

TASKS = ("seg", "depth", "saliency")
"""Those of the paper."""

FEATURES, LATENT, JOINT = "features", "VAE latent", "features, one decoder for all tasks"
ARMS = {
    FEATURES: [],
    "features and concept maps": ["concept_maps=true"],
    "features of one timestep, t=0.26": ["aggregation=single", "backbone.timesteps=[0.26]"],
    LATENT: ["input=latent"],
}
"""Label -> overrides. On data other than rooms only features and latent are compared."""


@dataclass(frozen=True, kw_only=True)
class TaskBudget:
    """Equal for all arms; the joint decoder has ``steps`` for each of its tasks.

    Attributes:
        train, test: pictures; fewer where a set has fewer.
        height, width: pixels of training views.
        views: fixed views of each picture.
        steps, batch: of training.
    """

    train: int = 240
    test: int = 96
    height: int = 256
    width: int = 256
    views: int = 1
    steps: int = 300
    batch: int = 4


REAL_BUDGET = TaskBudget(train=800, test=101, height=192, width=256, views=2, steps=1200)
"""For photographs, which vary more than rooms; those at hand are 4:3, and so are their views.

Chosen after 800 steps, when the S-measure of features still rose (0.6186, the centre prior's being
0.6187).
"""


def run_rooms(
    out: Path, name: str, budget: TaskBudget, seeds: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All arms on rooms: task -> arm -> eval.json with ``parameters``, one for each seed."""
    backbone = load_backbone(name)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {task: {} for task in TASKS}
    for seed in range(seeds):
        for label, extra in ARMS.items():
            for task in TASKS:
                config = _config(out, name, budget, seed, [f"task={task}", *extra])
                run = out / f"seed-{seed}" / f"{task}-{_slug(label)}"
                found = _run(config, run, backbone)
                results[task].setdefault(label, []).append(found)
        joint = out / f"seed-{seed}" / "joint"
        steps = [f"train.steps={len(TASKS) * budget.steps}"]
        for task, found in _joint(_config(out, name, budget, seed, steps), joint, backbone).items():
            results[task].setdefault(JOINT, []).append(found)
    return results


def run_real(
    out: Path, name: str, budget: TaskBudget, sets: Sequence[TaskData]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Features and latent on data of the user's: task -> arm -> eval.json of one seed."""
    backbone = load_backbone(name)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for member in sets:
        data: list[Override] = [("data.name", member.name), ("data.root", member.root)]
        for label in (FEATURES, LATENT):
            extra = [f"task={member.task}", *data, *ARMS[label]]
            run = out / f"{member.task}-{_slug(label)}"
            found = _run(_config(out, name, budget, 0, extra), run, backbone)
            found["data"] = f"{Path(member.root or '').name} ({member.name})"
            results.setdefault(member.task, {})[label] = [found]
    return results


def _config(
    out: Path, name: str, budget: TaskBudget, seed: int, extra: Sequence[Override]
) -> DenseConfig:
    return resolve_dense_config(
        None,
        [
            ("backbone.name", name),
            f"data.max_images={budget.train}",
            f"data.max_eval_images={budget.test}",
            f"data.height={budget.height}",
            f"data.width={budget.width}",
            f"data.views={budget.views}",
            f"train.steps={budget.steps}",
            f"train.batch_size={budget.batch}",
            f"train.seed={seed}",
            f"train.preview_every={budget.steps}",
            ("cache.dir", str(out / "feature-cache")),
            *extra,
        ],
    )


def _run(config: DenseConfig, run: Path, backbone: Backbone) -> dict[str, Any]:
    if not (run / "eval.json").is_file():
        begun = (run / "metrics.jsonl").is_file()
        _require_finished(train_dense(config, run, resume=begun, backbone=backbone), run)
        eval_dense(run, backbone=backbone)
    return _report(run)


def _joint(config: DenseConfig, run: Path, backbone: Backbone) -> dict[str, dict[str, Any]]:
    if not all((run / task / "eval.json").is_file() for task in TASKS):
        begun = (run / "metrics.jsonl").is_file()
        members = [TaskData(task) for task in TASKS]
        result, folders = train_joint(config, members, run, resume=begun, backbone=backbone)
        _require_finished(result, run)
        for folder in folders:
            if not (folder / "eval.json").is_file():
                eval_dense(folder, backbone=backbone)
    return {task: _report(run / task) for task in TASKS}


def _require_finished(result: TrainResult, run: Path) -> None:
    if not result.finished:
        raise InputError(f"stopped in {run}; the same command goes on from there")


def _report(run: Path) -> dict[str, Any]:
    report = json.loads((run / "eval.json").read_text())
    kept = ("task", "data", "pictures", "scores", "constant", "protocol")
    return {**{k: report[k] for k in kept}, "parameters": report["parameters"]["total"]}


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label.lower())
