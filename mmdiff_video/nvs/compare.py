"""``mmdiff-video compare-3dgs``: latent against features, the paper's Table 9."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json, write_text
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.evaluate import eval_3dgs, format_metric, shown_metrics
from mmdiff_video.nvs.model import count_parameters, widen_to
from mmdiff_video.nvs.setup import set_up
from mmdiff_video.nvs.train import train_3dgs
from mmdiff_video.tables import format_count, format_table

logger = logging.getLogger(__name__)

ARMS = {
    "latent": "latent",
    "latent-wide": "latent, trunk widened to the same parameters",
    "features": "aggregated features",
}
"""Run folder -> label in the table."""


def compare_3dgs(config: NVSConfig, out: Path) -> str:
    """Train and score the three arms under equal settings; returns the table.

    Every arm has the same clips, samplings, steps, batch and decoder; ``latent-wide`` has a wider
    trunk, so that the features' aggregator is not a free gift of parameters. Writes
    ``comparison.json`` and ``comparison.md``. Arms that are done are kept and a half-trained one
    goes on, so that the same command continues a comparison that was stopped.

    Raises:
        InputError: as training and evaluation; or the folder holds another comparison.
    """
    arms, backbone = _arms(config)
    reports: dict[str, dict[str, Any]] = {}
    for name, arm in arms.items():
        run = out / name
        if not _done(run, arm):
            logger.info("== %s", ARMS[name])
            result = train_3dgs(
                arm, run, resume=(run / "metrics.jsonl").exists(), backbone=backbone
            )
            if not result.finished:
                raise InputError(f"stopped in {run}; the same command goes on from there")
            eval_3dgs(run)
        reports[name] = json.loads((run / "eval.json").read_text())
        reports[name]["parameters"] = json.loads((run / "run.json").read_text())["parameters"]
    table = _table(reports)
    write_json(out / "comparison.json", reports)
    write_text(out / "comparison.md", table + "\n")
    return table


def _arms(config: NVSConfig) -> tuple[dict[str, NVSConfig], Backbone]:
    """Build the complete config of each arm; all share one backbone."""
    features = set_up(replace(config, input="features"))
    latent = replace(features.config, input="latent")
    target = count_parameters(features.model)["total"]
    wide, _ = widen_to(latent, target, features.backbone, features.space)
    arms = {"latent": latent, "latent-wide": wide, "features": features.config}
    return arms, features.backbone


def _done(run: Path, arm: NVSConfig) -> bool:
    """Whether an arm is trained and scored already, with these settings."""
    if not (run / "config.yaml").exists():
        return False
    found = load_config(NVSConfig, run / "config.yaml")
    if replace(found, data=replace(found.data, root=arm.data.root)) != arm:
        raise InputError(f"{run} was trained with other settings; choose another --out")
    return (run / "eval.json").exists()


def _table(reports: dict[str, dict[str, Any]]) -> str:
    first = next(iter(reports.values()))
    metrics = shown_metrics(list(reports.values()))
    rows = [
        [
            ARMS[name],
            format_count(report["parameters"]["total"]),
            *(format_metric(report["held_out"].get(metric), metric) for metric in metrics),
        ]
        for name, report in reports.items()
    ]
    rows.append(
        [
            "copy of the nearest input frame",
            "-",
            *(format_metric(first["nearest_input"].get(metric), metric) for metric in metrics),
        ]
    )
    title = (
        f"{first['data']}, {first['split']}: {first['scenes']} scenes, {first['views']} held-out"
        f" views; {first['backbone']}, {first['steps']} steps each"
    )
    header = ["input of the decoder", "trainable parameters", *metrics.values()]
    notes = [first["notice"], first["protocol"], first["lpips_reason"]]
    return "\n".join([format_table(header, rows, title=title), *(note for note in notes if note)])
