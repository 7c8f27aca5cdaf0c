"""The result of scoring a run of ``mmdiff-video train-3dgs``: eval.json, and its table."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mmdiff_video.datasets.clips.sampling import FrameChoices
from mmdiff_video.nvs.setup import Setup
from mmdiff_video.tables import format_table
from mmdiff_video.version import __version__

ROWS = {
    "held_out": "held-out views",
    "nearest_input": "copy of the nearest input frame",
    "inputs": "input views",
}
"""What is scored: name in eval.json -> label in the table."""

METRICS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "st_lpips": "ST-LPIPS"}
"""Name in eval.json -> heading in the table. ST-LPIPS stands in where LPIPS has no weights."""

EQUAL_PSNR = 100.0
"""dB counted for a view that equals its truth to the last bit, such as a copied frame of a still
camera: its PSNR is infinite, and so would be the mean."""


@dataclass
class Scores:
    """The metrics of each scene.

    Attributes:
        scenes: row -> clip key -> metric -> mean over the scene's views.
        views: how many held-out views were scored.
    """

    scenes: dict[str, dict[str, dict[str, float]]] = field(
        default_factory=lambda: {row: {} for row in ROWS}
    )
    views: int = 0

    def mean(self, row: str, metric: str) -> float | None:
        """Mean over scenes; None where the metric was not computed."""
        values = [scores[metric] for scores in self.scenes[row].values() if metric in scores]
        return statistics.fmean(values) if values else None


def make_report(
    setup: Setup,
    step: int,
    scores: Scores,
    choices: FrameChoices,
    *,
    split: str,
    skipped: Sequence[Mapping[str, str]],
    no_lpips: str,
) -> dict[str, Any]:
    """Make the content of an eval.json: what was scored, how, and the scores.

    Args:
        setup: of the run.
        step: how many steps it was trained.
        scores: of all scenes.
        choices: how frames were chosen.
        split: of the data set.
        skipped: what was left out (``key``, ``reason``).
        no_lpips: why there is no LPIPS; empty where there is.
    """
    means = {row: {m: _finite(scores.mean(row, m)) for m in METRICS} for row in ROWS}
    return {
        **means["held_out"],
        **means,
        "scenes": len(scores.scenes["held_out"]),
        "views": scores.views,
        "counts": choices.counts,
        "protocol": choices.note,
        "data": setup.card.title,
        "input": setup.config.input,
        "backbone": setup.backbone.name,
        "untrained_backbone": setup.backbone.untrained,
        "notice": setup.notice,
        "steps": step,
        "split": split,
        "skipped": list(skipped),
        "lpips_reason": f"LPIPS n/a: {no_lpips}" if no_lpips else "",
        "settings": {
            "size": [setup.height, setup.width],
            "input_frames": setup.frames,
            "psnr": "on renders clipped to [0, 1] and rounded to 8 bits; equal pictures count as"
            f" {EQUAL_PSNR:.0f} dB",
            "ssim": "Gaussian window 11x11, sigma 1.5, range 1",
            "lpips": "VGG, lpips package, inputs in [-1, 1]",
            "st_lpips": "AlexNet, weights of stlpips_pytorch",
            "mean": "over the views of a scene, then over scenes",
            "mmdiff_video": __version__,
            "torch": torch.__version__,
        },
        "per_scene": {
            row: {key: {m: _finite(v) for m, v in found.items()} for key, found in scenes.items()}
            for row, scenes in scores.scenes.items()
        },
    }


def report_name(split: str) -> str:
    """Name of the folder of pictures, and of the JSON file without its ending, for a split."""
    return "eval" if split == "test" else f"eval-{split}"


def table(report: dict[str, Any]) -> str:
    """Lay out an eval.json for reading."""
    metrics = shown_metrics([report])
    rows = [
        [label, *(format_metric(report[name].get(metric), metric) for metric in metrics)]
        for name, label in ROWS.items()
    ]
    title = (
        f"{report['data']}, {report['split']}: {report['scenes']} scenes, {report['views']}"
        f" held-out views, {len(report['skipped'])} scenes skipped; {report['input']} of"
        f" {report['backbone']}, {report['steps']} steps"
    )
    notes = [report["notice"], report["protocol"], report["lpips_reason"]]
    if report["split"] == "train":
        notes.insert(0, "these clips were trained on: no view of theirs is new to the model")
    lines = [format_table(["", *metrics.values()], rows, title=title)]
    return "\n".join(lines + [note for note in notes if note])


def shown_metrics(reports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The metrics that a table of some eval.json needs: ST-LPIPS only where one has it."""
    with_st = any(report["held_out"].get("st_lpips") is not None for report in reports)
    return {name: title for name, title in METRICS.items() if name != "st_lpips" or with_st}


def format_metric(value: float | None, metric: str) -> str:
    """Write a metric with the digits that papers give; ``n/a`` where there is none."""
    return "n/a" if value is None else f"{value:.2f}" if metric == "psnr" else f"{value:.3f}"


def _finite(value: float | None) -> float | None:
    """JSON has no NaN: what could not be scored is written as null."""
    return value if value is not None and math.isfinite(value) else None
