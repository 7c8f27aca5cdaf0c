"""``mmdiff-video generate``: sample a picture or clip, with its dense maps in the same pass."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from mmdiff_video.backbones import load_backbone
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.backbones.types import Generated
from mmdiff_video.dense.model import concepts_of
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.results import (
    REPORT,
    check_frames_folder,
    remove_other_form,
    write_picture,
    write_video,
    written_before,
)
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_json
from mmdiff_video.outputs import results_folder
from mmdiff_video.pictures import save_png, save_video, to_uint8
from mmdiff_video.process import this_device

logger = logging.getLogger(__name__)

_FPS = 16
"""Frames a second of sampled clips, as Wan is made for."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What is sampled. None means the backbone's default."""

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0


def generate_dense(
    prompt: str,
    heads: Sequence[Path | str],
    out: Path,
    *,
    backbone: str | None = None,
    sample: SampleConfig | None = None,
) -> list[Path]:
    """Sample once, and let every head read that very run.

    Writes ``sample.png`` (or ``.mp4``), for each head what ``predict`` writes, and ``report.json``.

    Args:
        prompt: what the sample is to show.
        heads: what :meth:`DenseModel.from_pretrained` takes; all on one backbone. Empty: the sample
            alone.
        out: the folder of the results.
        backbone: what samples; None: the heads', or ``nano-flux`` where there is none.
        sample: sizes, steps and seed; None: the backbone's defaults.

    Returns:
        The files and folders that were written.

    Raises:
        InputError: heads that cannot read one sampling run (:func:`sample_for`), a head on another
            backbone, sizes that the backbone cannot sample, or another process that writes to
            ``out``.
    """
    sample = sample or SampleConfig()
    sampler, models = _open(heads, backbone)
    places = dict(zip(_names(models, heads), models, strict=True))
    with results_folder(out, "generate"):
        for name in places:
            check_frames_folder(out / name)  # before the work
        return _generate(prompt, sampler, places, out, sample, list(map(str, heads)))


def _generate(
    prompt: str,
    sampler: Backbone,
    places: Mapping[str, DenseModel],
    out: Path,
    sample: SampleConfig,
    heads: Sequence[str],
) -> list[Path]:
    models, before = list(places.values()), written_before(out)
    found = sample_for(sampler, models, prompt, sample)
    frames = to_uint8(found.video[0].permute(1, 2, 3, 0))  # [T, H, W, 3]
    written = [out / ("sample.png" if len(frames) == 1 else "sample.mp4")]
    if len(frames) == 1:
        save_png(Image.fromarray(frames[0]), written[0])
    else:
        save_video(frames, written[0], fps=_FPS)
    for name, model in places.items():
        predictions = model.predict_features(part_of(found.features, model), found.video)
        if len(frames) == 1:
            written.append(write_picture(model, frames[0], predictions[0], out / name))
        else:
            written.append(write_video(model, [(frames, predictions)], out / name, _FPS))
        remove_other_form(written[-1], before)
    write_json(
        out / REPORT,
        {
            "prompt": prompt,
            "backbone": sampler.name,
            "untrained_backbone": sampler.untrained,
            "seed": sample.seed,
            "heads": dict(zip(places, heads, strict=True)),
            "written": [str(path) for path in written],
            "formats": {name: model.setup.task.file_format for name, model in places.items()},
            "asked_timesteps": list(found.features.timesteps),
            "read_at_sigmas": [float(s) for s in found.features.sigmas],
        },
    )
    return written


def sample_for(
    backbone: Backbone, models: Sequence[DenseModel], prompt: str, sample: SampleConfig
) -> Generated:
    """Sample once, reading all that the models read together.

    Raises:
        InputError: models that read different concepts (a map depends on the whole set), or
            concepts at some of the timesteps only (a map is the mean over all).
    """
    taps: dict[str, None] = {}
    timesteps: dict[float, None] = {}
    concepts: dict[tuple[str, ...], set[float]] = {}
    for model in models:
        config = model.setup.config
        read_at = config.backbone.timesteps or ()
        words = concepts_of(config, model.setup.task)
        if config.input == "features":
            taps |= dict.fromkeys(config.backbone.taps or ())
        if config.input == "features" or words:
            timesteps |= dict.fromkeys(read_at)
        if words:
            concepts[words] = concepts.get(words, set(read_at)) & set(read_at)
    if len(concepts) > 1:
        sets = " and ".join("'" + ", ".join(words) + "'" for words in concepts)
        raise InputError(f"the heads read different concepts ({sets}): sample for one at a time")
    if any(len(shared) < len(timesteps) for shared in concepts.values()):
        raise InputError(
            "the heads read different timesteps, and a concept map is the mean over all of them:"
            " sample for one at a time"
        )
    return backbone.generate(
        prompt,
        list(taps),
        list(timesteps) or None,
        height=sample.height,
        width=sample.width,
        frames=sample.frames,
        steps=sample.steps,
        guidance=sample.guidance,
        seed=sample.seed,
        concepts=next(iter(concepts), None),
    )


def _open(heads: Sequence[Path | str], backbone: str | None) -> tuple[Backbone, list[DenseModel]]:
    if not heads:
        return load_backbone(backbone or "nano-flux", device=this_device()), []
    models = [DenseModel.from_pretrained(heads[0])]
    sampler = models[0].setup.backbone
    for head in heads[1:]:
        models.append(DenseModel.from_pretrained(head, sampler))
    for head, model in zip(heads, models, strict=True):
        name = model.setup.config.backbone.name
        if name != models[0].setup.config.backbone.name or name != (backbone or name):
            raise InputError(
                f"'{head}' reads {name}, but {backbone or sampler.name} is to sample: heads and"
                " sampler must share a backbone"
            )
    return sampler, models


def _names(models: Sequence[DenseModel], heads: Sequence[Path | str]) -> list[str]:
    """Name each head's results by its task; of equal ones also by run, then by number."""
    tasks = [model.setup.task.name for model in models]
    names = [
        # realpath: '.' and '..' have names
        task if tasks.count(task) == 1 else f"{task}-{os.path.basename(os.path.realpath(head))}"
        for task, head in zip(tasks, heads, strict=True)
    ]
    if len({name.casefold() for name in names}) == len(names):
        return names
    return [
        name if tasks.count(task) == 1 else f"{name}-{number}"
        for number, (task, name) in enumerate(zip(tasks, names, strict=True), start=1)
    ]


def part_of(features: DiTFeatures, model: DenseModel) -> DiTFeatures:
    """Pick out the taps and timesteps, in their order, that one model reads."""
    config = model.setup.config
    if config.input == "latent":
        return replace(features, maps={}, concepts=None)
    times = config.backbone.timesteps or ()
    chosen = torch.tensor([features.timesteps.index(t) for t in times])
    return DiTFeatures(
        maps={tap: features.maps[tap][:, chosen] for tap in config.backbone.taps or ()},
        timesteps=times,
        sigmas=tuple(features.sigmas[i] for i in chosen.tolist()),
        latent=features.latent,
        untrained=features.untrained,
        concepts=features.concepts if concepts_of(config, model.setup.task) else None,
    )
