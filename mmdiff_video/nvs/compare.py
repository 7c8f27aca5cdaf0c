"""``mmdiff-video compare-3dgs``: latent against features, the paper's Table 9."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from mmdiff_video.datasets.clips.views import EvaluationDataset, NVSSample, collate
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, write_json, write_text
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.evaluate import eval_3dgs, evaluation_set
from mmdiff_video.nvs.model import widen_to
from mmdiff_video.nvs.objective import render
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.nvs.report import format_metric, report_name, shown_metrics
from mmdiff_video.nvs.setup import Setup, set_up
from mmdiff_video.nvs.train import train_3dgs
from mmdiff_video.pictures import save_png, side_by_side, to_uint8
from mmdiff_video.process import writing_together
from mmdiff_video.runs import CONFIG, open_run
from mmdiff_video.tables import format_count, format_table
from mmdiff_video.training import count_parameters
from mmdiff_video.training.resuming import is_finished

logger = logging.getLogger(__name__)

ARMS = {
    "latent": "latent",
    "latent-wide": "latent, trunk widened to the same parameters",
    "features": "aggregated features",
}
"""Run folder -> label in the table."""

_SCENES, _VIEWS = 3, 2
"""Scenes in the picture, and held-out views of each."""


def compare_3dgs(
    config: NVSConfig,
    out: Path,
    *,
    arms: Sequence[str] = tuple(ARMS),
    splits: Sequence[str] = ("test",),
) -> str:
    """Train and score some arms under equal settings; returns the tables.

    Every arm has the same clips, samplings, steps, batch and decoder; ``latent-wide`` has a wider
    trunk, so that it has as many parameters as aggregator and decoder of ``features``. Writes
    ``comparison.json`` (split -> arm -> report), ``comparison.md`` and, for each split, a picture
    of the arms' renders side by side. Finished arms are kept and a half-trained one goes on, so
    that the same command continues a comparison that was stopped. A report is kept only if it is
    of the last step and of the scenes of this comparison.

    Args:
        config: of every arm; its ``input`` is not read.
        out: a folder for the runs of the arms.
        arms: keys of :data:`ARMS`.
        splits: of the data set, which every arm is scored on.

    Raises:
        InputError: as training and evaluation; or the folder holds another comparison, or another
            process compares there.
    """
    with writing_together(out, "comparing"):
        return _compare(config, out, arms, splits)


def _compare(config: NVSConfig, out: Path, arms: Sequence[str], splits: Sequence[str]) -> str:
    configs, setup = _arms(config, arms)
    backbone = setup.backbone
    protocols = {split: _Protocol.of(setup, split) for split in splits}
    reports: dict[str, dict[str, dict[str, Any]]] = {split: {} for split in splits}
    for name, arm in configs.items():
        run = out / name
        if not _trained(run, arm):
            logger.info("== %s", ARMS[name])
            result = train_3dgs(
                arm, run, resume=(run / "metrics.jsonl").exists(), backbone=backbone
            )
            if not result.finished:
                raise InputError(f"stopped in {run}; the same command goes on from there")
        for split in splits:
            path = run / f"{report_name(split)}.json"
            if not protocols[split].holds(path, arm.train.steps):
                eval_3dgs(run, split=split, backbone=backbone, cache=config.cache)
            report = read_json(path)
            report["parameters"] = dict(open_run(run, "3dgs").facts.parameters)
            reports[split][name] = report
    tables = "\n\n".join(_table(found) for found in reports.values())
    write_json(out / "comparison.json", reports)
    write_text(out / "comparison.md", tables + "\n")
    runs = {
        name: Reconstructor.from_run(out / name, backbone=backbone, cache=config.cache)
        for name in configs
    }
    for split in splits:
        _draw(runs, protocols[split].samples, out / f"comparison-{split}.png")
    return tables


@dataclass(frozen=True)
class _Protocol:
    """What the arms are scored on in one split.

    Attributes:
        samples: of the scenes that can be read.
        scenes: keys of all of them, those left out too.
        note: how frames were chosen.
    """

    samples: EvaluationDataset
    scenes: frozenset[str]
    note: str

    @classmethod
    def of(cls, setup: Setup, split: str) -> Self:
        samples, choices, skipped = evaluation_set(setup, split)
        keys = [clip.key for clip in samples.clips] + [left["key"] for left in skipped]
        return cls(samples, frozenset(keys), choices.note)

    def holds(self, path: Path, steps: int) -> bool:
        """Whether a file reports these scenes and frames, of a model of so many steps.

        ``eval`` writes the same file for any step, and for fewer clips or other frames.
        """
        if not path.exists():
            return False
        try:
            report = read_json(path)
            keys = {*report["per_scene"]["held_out"], *(left["key"] for left in report["skipped"])}
            found = report["steps"], keys, report["protocol"]
        except (InputError, KeyError, TypeError):  # damaged: it is written anew
            return False
        return found == (steps, self.scenes, self.note)


def _arms(config: NVSConfig, names: Sequence[str]) -> tuple[dict[str, NVSConfig], Setup]:
    """Build the complete config of each arm; all share one backbone, that of the setup."""
    features = set_up(replace(config, input="features"))
    latent = replace(features.config, input="latent")
    target = count_parameters(features.model)["total"]
    wide, _ = widen_to(latent, target, features.backbone, features.space)
    arms = {"latent": latent, "latent-wide": wide, "features": features.config}
    return {name: arms[name] for name in names}, features


def _trained(run: Path, arm: NVSConfig) -> bool:
    """Whether a run has finished its training, with these settings."""
    if not (run / CONFIG).exists():
        return False
    found = open_run(run, "3dgs").read_config(NVSConfig)
    index = found.data.eval_index
    found = replace(
        found,
        data=replace(
            found.data, root=arm.data.root, eval_index=index and str(Path(index).resolve())
        ),
        cache=replace(found.cache, dir=arm.cache.dir),
    )
    if found != arm:
        raise InputError(f"{run} was trained with other settings; choose another --out")
    return is_finished(run, arm.train.steps)


def _table(reports: Mapping[str, Mapping[str, Any]]) -> str:
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
    seen = "these clips were trained on" if first["split"] == "train" else ""
    notes = [first["notice"], seen, first["protocol"], first["lpips_reason"]]
    return "\n".join([format_table(header, rows, title=title), *(note for note in notes if note)])


@torch.no_grad()
def _draw(runs: Mapping[str, Reconstructor], samples: EvaluationDataset, path: Path) -> None:
    """Lay held-out views beside the renders of every arm."""
    first = next(iter(runs.values()))
    rows, titles = [], []
    for index in range(min(_SCENES, len(samples))):
        sample = samples[index]
        if not isinstance(sample, NVSSample):
            continue  # every eval.json lists it
        batch = collate([sample]).to(first.setup.backbone.device)
        height, width = batch.video.shape[-2:]
        views = torch.linspace(0, batch.target_images.shape[1] - 1, _VIEWS).round().long()
        viewmats, Ks = batch.target_viewmats[0, views], batch.target_Ks[0, views]
        columns = [to_uint8(batch.target_images[0, views].movedim(1, -1))]
        for run in runs.values():
            rendered = render(run.reconstruct(batch)[0], viewmats, Ks, height, width)
            columns.append(to_uint8(rendered.image))
        rows += list(zip(*columns, strict=True))
        titles += [f"{sample.clip_key}, frame {batch.target_indices[0, view]}" for view in views]
    if rows:
        picture = side_by_side(
            rows,
            ["truth", *runs],
            row_titles=titles,
            note=first.setup.notice,
            scale=2 if rows[0][0].shape[0] < 200 else 1,
        )
        save_png(picture, path)
