"""What is written down of a pretraining: its steps, hours, hardware, and what it started from."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmdiff_video.files import read_json, write_json
from mmdiff_video.pretraining.config import DiTConfig, StageConfig, VAEConfig
from mmdiff_video.process import processes
from mmdiff_video.training import checkpoints
from mmdiff_video.training.checkpoint import load_state

REPORT = "report.json"
"""File that a finished run leaves in its folder."""
TRAINING = "training.json"
"""File of an exported backbone: the reports of its two runs, as ``vae`` and ``dit``."""
_BEGAN_AS = "began_as.json"


def keep_origin(out: Path, init: Path, part: str, **known: Any) -> None:
    """Note in a new run's folder what is known of the training of the weights it starts from.

    Args:
        out: the run folder.
        init: a finished run, or a backbone's folder.
        part: ``vae`` or ``dit``.
        known: further entries, plain JSON values.
    """
    if not processes().is_main_process:
        return
    noted: dict[str, Any] = {"weights": init.resolve().name, **known}
    if (init / TRAINING).is_file():
        noted |= read_json(init / TRAINING).get(part) or {}
    elif (init / REPORT).is_file():
        noted |= read_json(init / REPORT)
    write_json(out / _BEGAN_AS, noted)


def origin(out: Path) -> dict[str, Any]:
    """Return what :func:`keep_origin` noted, as an entry of the run's report."""
    file = out / _BEGAN_AS
    return {"began_as": read_json(file)} if file.is_file() else {}


def clips_of_stages(config: VAEConfig | DiTConfig) -> dict[str, int]:
    """Return how many clips every stage trains on."""
    return {stage.name: (stage.corpus or config.corpus).train_clips for stage in config.stages}


def training_hours(out: Path, stages: Sequence[StageConfig]) -> dict[str, float]:
    """Hours that a finished run's stages took, from their metrics; pauses do not count."""
    hours = {}
    for stage in stages:
        run = out / stage.name
        samples_per_step = load_state(checkpoints(run)[-1])["global_batch"]
        seconds, before = 0.0, 0
        for line in (run / "metrics.jsonl").read_text().splitlines():
            values = json.loads(line)
            if rate := values.get("samples_per_second"):
                seconds += (values["step"] - before) * samples_per_step / rate
                before = values["step"]
        hours[stage.name] = round(seconds / 3600, 3)
    return hours


def describe_hardware(device: torch.device) -> str:
    """Name what a run computes on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {torch.get_num_threads()} threads"
