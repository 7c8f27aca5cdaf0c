"""``report.json`` of a scene, and what a terminal is told of it."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mmdiff_video.nvs.report import EQUAL_PSNR, METRICS, format_metric
from mmdiff_video.scenes.capture.report import CaptureReport
from mmdiff_video.scenes.fitting.scoring import Compared
from mmdiff_video.scenes.fitting.settings import SceneSettings
from mmdiff_video.tables import format_table
from mmdiff_video.version import __version__

ROWS = {"held_out": "held-out views", "nearest_frame": "copy of the nearest picture"}
"""What is scored: name in report.json -> label in the table."""


def make_report(
    capture: CaptureReport,
    settings: SceneSettings,
    compared: Sequence[Compared],
    held_out: Sequence[str],
    *,
    start: str,
    gaussians: int,
    steps: int,
    size: tuple[int, int],
    aligned: bool,
    seconds: dict[str, float],
    no_lpips: str,
) -> dict[str, Any]:
    """Make the content of the file.

    Args:
        capture: how the capture came about.
        settings: of the fit.
        compared: the held-out views; empty: none were held out.
        held_out: their names.
        start: what the fit began with, in words.
        gaussians: how many there are.
        steps: of the fit.
        size: width and height of the pictures that were fitted.
        aligned: the cameras of held-out views were moved to fit the finished scene.
        seconds: by stage.
        no_lpips: why there is no LPIPS; empty where there is.
    """
    means = {row: _means([one.scores[row] for one in compared]) for row in ROWS}
    protocol = f"every {settings.hold_out}th picture is held out of the fit" if compared else (
        "no picture is held out: there are no scores"
    )  # fmt: skip
    if compared and capture.poses == "found":
        protocol += "; poses were found from all pictures"
    if aligned:
        protocol += "; the cameras of held-out pictures were moved to fit the finished scene"
    return {
        **means,
        "frames": capture.frames,
        "registered": capture.registered,
        "reprojection_error": capture.reprojection_error,
        "gaussians": gaussians,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "settings": {**asdict(settings), "start": start, "steps_done": steps, "size": list(size)},
        "protocol": protocol,
        "views": {
            name: {row: one.scores[row] for row in ROWS}
            for name, one in zip(held_out, compared, strict=True)
        },
        "poses": capture.poses,
        "capture": {
            "source": capture.source,
            "chosen": capture.chosen,
            "camera": capture.camera,
            "left_out": capture.left_out,
            "points": capture.points,
        },
        "lpips_reason": f"LPIPS n/a: {no_lpips}" if no_lpips else "",
        "scores": f"on renders clipped to [0, 1] and rounded to 8 bits; equal pictures count as"
        f" {EQUAL_PSNR:.0f} dB; SSIM with a Gaussian window 11x11, sigma 1.5",
        "mmdiff_video": __version__,
        "torch": torch.__version__,
    }


def lines(report: dict[str, Any], folder: Path) -> str:
    """Say on a terminal what came of it."""
    seconds = report["seconds"]
    error = report["reprojection_error"]
    told = [
        f"{report['registered']} of {report['frames']} pictures have a camera"
        + (f", reprojection error {error:.2f} pixels" if error is not None else ""),
        f"start: {report['settings']['start']}",
        f"{report['gaussians']:,} Gaussians, {report['settings']['steps_done']:,} steps; "
        + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()),
    ]
    if report["held_out"]:
        metrics = [m for m in METRICS if m in report["held_out"]]
        rows = [
            [label, *(format_metric(report[row][m], m) for m in metrics)]
            for row, label in ROWS.items()
        ]
        told.append(format_table(["", *(METRICS[m] for m in metrics)], rows, title=""))
    told.append(report["protocol"])
    told.append(f"the scene is in '{folder}': scene.ply, flight.mp4, comparisons.png")
    return "\n".join(told)


def _means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        metric: statistics.fmean(one[metric] for one in scores)
        for metric in (scores[0] if scores else {})
    }
