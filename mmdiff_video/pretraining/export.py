"""``mmdiff-video pretrain export``: make the folder of a backbone out of a trained DiT and VAE."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdiff_video.backbones import load_backbone
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.cards import load_card
from mmdiff_video.backbones.nano.build import save_backbone
from mmdiff_video.backbones.nano.parts import load_vae, make_pipeline
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, write_folder_aside, write_json, write_text
from mmdiff_video.pretraining.config import DiTConfig
from mmdiff_video.pretraining.denoisers import new_denoiser
from mmdiff_video.pretraining.reports import REPORT, TRAINING, origin
from mmdiff_video.pretraining.runs import CONFIG, starting_weights
from mmdiff_video.pretraining.sealed import seal_weights
from mmdiff_video.tables import format_bytes
from mmdiff_video.training import checkpoints, load_model

logger = logging.getLogger(__name__)

GOLDEN = "golden.json"
"""A forward of the exported weights, which they must reproduce wherever they are loaded."""

_GOLDEN_VALUES = 32


def export_backbone(run: Path, out: Path) -> Path:
    """Write a complete diffusers folder in bfloat16.

    Args:
        run: of ``pretrain dit``, finished or not: the averaged weights of its newest checkpoint.
        out: the folder to make.

    Raises:
        InputError: ``run`` has no checkpoint, its VAE is not to be found, or ``out`` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists already; give another folder, or delete it first")
    if not (run / CONFIG).is_file():
        raise InputError(f"no run in {run}: it has no {CONFIG}")
    config = load_config(DiTConfig, run / CONFIG)
    card = load_card(config.backbone)
    vae_folder = starting_weights(Path(config.vae), "vae")
    denoiser = new_denoiser(card)
    stages = [stage.name for stage in config.stages if checkpoints(run / stage.name)]
    if not stages:
        raise InputError(f"{run}: no checkpoint in this run; train first")
    step = load_model(run / stages[-1], denoiser)
    pipeline = make_pipeline(
        card,
        vae=load_vae(vae_folder, card.pipeline),
        **denoiser.eval().requires_grad_(False).pipeline_components(),
    )
    reports = {
        "vae": _report(Path(config.vae)),
        "dit": _report(run) or {"stopped": f"stage {stages[-1]}, step {step}", **origin(run)},
    }
    with write_folder_aside(out) as folder:
        note = {"untrained": False, "scale": card.scale, "defaults": asdict(card.defaults)}
        save_backbone(pipeline, folder, note)
        seal_weights(folder)
        write_json(folder / TRAINING, reports)
        write_text(folder / "README.md", _model_card(config, reports))
        golden = golden_forward(load_backbone(folder, device="cpu"))
        write_json(folder / GOLDEN, golden)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    logger.info("%s: %s", out, format_bytes(size))
    return out


@torch.no_grad()
def golden_forward(backbone: Backbone) -> dict[str, list[float]]:
    """Run every component once on fixed input, on the CPU; a few values of each result."""
    defaults = backbone.defaults
    frames = 1 + backbone.geometry.time_stride if backbone.geometry.is_video else 1
    shape = (backbone.geometry.channels, *backbone.geometry.latent_grid(frames, 64, 64))
    noisy = keyed_noise(["golden"], 0, shape)
    text = backbone.encode_text([defaults.prompt])
    velocity = backbone.velocity(noisy, torch.tensor([0.5]), text, defaults.extract_guidance)
    picture = backbone.decode(noisy)
    return {
        "text": _some(text.tokens),
        "velocity": _some(velocity),
        "picture": _some(picture),
        "latent": _some(backbone.encode(picture)),
    }


def _some(tensor: Tensor) -> list[float]:
    flat = tensor.float().flatten()
    return flat[:: max(1, len(flat) // _GOLDEN_VALUES)][:_GOLDEN_VALUES].tolist()


def _report(run: Path) -> dict[str, Any] | None:
    file = run / REPORT
    return read_json(file) if file.is_file() else None


def _model_card(config: DiTConfig, reports: dict[str, Any]) -> str:
    """Say in words what the weights are and where they come from."""
    lines = [
        f"# {config.backbone}",
        "",
        "A small member of its family, trained from nothing on procedural rooms only"
        " (`mmdiff_video.rooms`); made by `mmdiff-video pretrain`.",
        "It knows rooms and the words of their captions, and nothing else.",
        "",
        "| part | parameters | steps | hours | hardware |",
        "|---|---|---|---|---|",
    ]
    for part, report in reports.items():
        lines += _training_rows(part, report)
    size = f"{config.corpus.height}x{config.corpus.width}"
    lines += ["", f"On held-out rooms at {size}:", ""]
    report = reports["dit"] or {}
    for title, scores in (
        ("flow matching", report.get("val", {})),
        ("VAE", report.get("reconstruction", {})),
    ):
        for name, value in scores.items():
            lines.append(f"- {title}, {name.removeprefix('val_').replace('_', ' ')}: {value:.4g}")
    lines += [
        "",
        "The whole reports are in `training.json`, the configs in `configs/pretrain` of the"
        " repository. `golden.json` holds values that the weights must reproduce.",
    ]
    return "\n".join(lines) + "\n"


def _training_rows(part: str, report: dict[str, Any] | None) -> list[str]:
    """Return the row of a part's training, after those of the runs that it started from."""
    report = report or {}
    before = report.get("began_as")
    rows = _training_rows(f"{part}, before", before) if before else []
    if "steps" not in report:
        known = report.get("stopped") or report.get("weights") or "unknown"
        return [*rows, f"| {part} | | {known} | | |"]
    parameters = report["parameters"]
    total = parameters if isinstance(parameters, int) else sum(parameters.values())
    steps = ", ".join(f"{name} {count}" for name, count in report["steps"].items())
    hours = sum(report["hours"].values())
    row = f"| {part} | {total / 1e6:.2f} M | {steps} | {hours:.2f} | {report['hardware']} |"
    return [*rows, row]
