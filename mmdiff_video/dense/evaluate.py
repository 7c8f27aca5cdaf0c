"""Score a dense run, beside the best constant prediction."""

import math
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.checks import check_least
from mmdiff_video.datasets.loading import load_images
from mmdiff_video.datasets.pictures.views import DenseSample, EvaluationViews, collate
from mmdiff_video.dense.model import parameter_counts
from mmdiff_video.dense.pictures import picture_row
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import DenseSetup
from mmdiff_video.files import file_name, write_json
from mmdiff_video.pictures import save_png, side_by_side
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.runs import scoring
from mmdiff_video.tables import format_table
from mmdiff_video.tasks import Constant, task_named
from mmdiff_video.version import __version__

_PICTURES = 24
"""Pictures that get a sheet of input, truth, prediction and error, at most."""

_CONSTANT_FROM = 500
"""Training pictures that the constant baseline learns from, at most."""


@torch.no_grad()
def eval_dense(
    run: Path,
    *,
    data_root: Path | None = None,
    max_images: int | None = None,
    backbone: Backbone | None = None,
) -> str:
    """Score a run, write ``eval.json`` and pictures into it, and return the table.

    Args:
        run: a run folder.
        data_root: where the data lies now, if it moved.
        max_images: a seeded choice of pictures; None: the config's ``max_eval_images``, else all.
        backbone: the run's, if it is loaded already.

    Raises:
        InputError: no run, no data, ``max_images`` below 1; or another process scores it.
    """
    if max_images is not None:
        check_least("--max-images", max_images, 1)  # before any model is loaded
    model = DenseModel.from_pretrained(run, backbone)
    setup, data = model.setup, model.setup.config.data
    root = find_or_make_root(setup.card, data_root or data.root)
    split = data.eval_split or setup.card.held_out
    loaded = load_images(
        setup.card,
        root,
        split,
        setup.task.labels,
        max_images=data.max_eval_images if max_images is None else max_images,
        split_seed=data.split_seed,
    )
    skipped = [{"key": s.key, "reason": s.reason} for s in loaded.skipped]
    constant = _learn_constant(setup, root)
    samples = EvaluationViews(
        loaded.images,
        setup.task.labels,
        height=setup.height,
        width=setup.width,
        void=setup.card.void,
        unit=setup.unit,
    )
    with scoring(run, "eval") as path:
        scores, baseline = setup.task.scores(), setup.task.scores()
        scored = 0
        for index in tqdm(range(len(samples)), desc="evaluate", unit="picture", disable=None):
            sample = samples[index]
            if not isinstance(sample, DenseSample):
                skipped.append({"key": sample.key, "reason": sample.reason})
                continue
            batch = collate([sample]).to(setup.backbone.device)
            found = setup.task.decode(setup.output(setup.model, batch))[0].cpu()
            scores.add(found, sample.target, sample.valid)
            baseline.add(constant.predict(*sample.valid.shape), sample.target, sample.valid)
            scored += 1
            if scored <= _PICTURES:
                image = F.interpolate(
                    sample.image[None], sample.valid.shape, mode="bilinear", align_corners=False
                )
                row = picture_row(setup.task, sample, image[0], found)
                sheet = side_by_side(
                    [row], ["input", "truth", "prediction", "error"], note=setup.notice
                )
                save_png(sheet, run / "eval" / f"{file_name(sample.key)}.png")
        report = {
            "task": setup.task.name,
            "data": setup.card.title,
            "split": split,
            "pictures": scored,
            "skipped": skipped,
            "scores": _finite(scores.compute()),
            "constant": {"label": constant.label, "scores": _finite(baseline.compute())},
            "protocol": " ".join(
                text
                for text in (setup.task.protocol() + ".", _resizing(setup), loaded.note)
                if text
            ),
            "input": setup.config.input,
            "backbone": setup.backbone.name,
            "untrained_backbone": setup.backbone.untrained,
            "notice": setup.notice,
            "steps": model.step,
            "parameters": {name.strip(): n for name, n in parameter_counts(setup.model).items()},
            "versions": {"mmdiff_video": __version__, "torch": torch.__version__},
        }
        write_json(path, report)
    return eval_table(report)


def eval_table(report: dict[str, Any]) -> str:
    """Lay out an eval.json for reading: the task's metrics, without what each class scored."""
    rows = [
        [f"head on {report['input']}", report["scores"]],
        [report["constant"]["label"], report["constant"]["scores"]],
    ]
    task = task_named(report["task"])
    names = list(task.metrics)
    body = [
        [label, *("n/a" if s[name] is None else f"{s[name]:.{task.decimals}f}" for name in names)]
        for label, s in rows
    ]
    title = (
        f"{report['data']}, {report['task']}, {report['split']}: {report['pictures']} pictures,"
        f" {len(report['skipped'])} skipped; {report['backbone']}, {report['steps']} steps"
    )
    lines = [format_table(["", *names], body, title=title), report["protocol"], report["notice"]]
    return "\n".join(line for line in lines if line)


def _learn_constant(setup: DenseSetup, root: Path) -> Constant:
    """Learn the constant baseline from the truth of (some) training pictures."""
    data = setup.config.data
    limit = min(data.max_images or _CONSTANT_FROM, _CONSTANT_FROM)
    loaded = load_images(
        setup.card,
        root,
        data.train_split or setup.card.train,
        setup.task.labels,
        max_images=limit,
        split_seed=data.split_seed,
    )
    constant = setup.task.constant()
    views = EvaluationViews(
        loaded.images,
        setup.task.labels,
        height=setup.unit,
        width=setup.unit,
        void=setup.card.void,
        unit=setup.unit,
    )
    for index in range(len(views)):
        sample = views[index]
        if isinstance(sample, DenseSample):
            constant.add(sample.target, sample.valid)
    return constant


def _resizing(setup: DenseSetup) -> str:
    return (
        f"Whole pictures resized to cover {setup.width}x{setup.height} in multiples of"
        f" {setup.unit} pixels, one forward each, the output resized to the truth."
    )


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
