"""Score held-out views of a run of ``mmdiff-video train-3dgs``."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.checks import check_least
from mmdiff_video.datasets.clips.clip import PosedClip
from mmdiff_video.datasets.clips.eval_index import index_choices, load_eval_index
from mmdiff_video.datasets.clips.sampling import FrameChoices, even_choices
from mmdiff_video.datasets.clips.views import EvaluationDataset, NVSBatch, NVSSample, collate
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.features.source import CacheConfig
from mmdiff_video.files import file_name, write_json
from mmdiff_video.nvs.objective import perceptual_metrics, render
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.nvs.report import EQUAL_PSNR, Scores, make_report, report_name, table
from mmdiff_video.nvs.setup import Setup
from mmdiff_video.pictures import colorize_depth, depth_range, save_png, side_by_side, to_uint8
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.runs import scoring
from recon.metrics import score_views

_PICTURES = 24
"""Scenes that get a side-by-side picture, at most."""


def eval_3dgs(
    run: Path,
    *,
    split: str = "test",
    data_root: Path | None = None,
    max_clips: int | None = None,
    eval_index: Path | None = None,
    backbone: Backbone | None = None,
    cache: CacheConfig | None = None,
) -> str:
    """Score a run, write ``eval.json`` and pictures into it, and return the table.

    For another split than ``test`` the file is ``eval-<split>.json``.

    PSNR, SSIM and LPIPS of the held-out views: mean over the views of a scene, then over scenes.
    Beside them the trivial baseline, which copies the input frame nearest in time, and the input
    views themselves.

    Args:
        run: a run folder.
        split: of the data set.
        data_root: where the data lies now, if it moved.
        max_clips: a seeded choice of clips; None: the config's ``max_eval_clips``, else the card's.
            Of the split ``train`` only clips that the run was trained on are chosen.
        eval_index: pixelSplat's evaluation index; None: the config's, else evenly spread views.
        backbone: the run's, if it is loaded already.
        cache: of features; None: none. What the run's own config says of one is not followed.

    Raises:
        InputError: no run, no data, an unknown split, ``max_clips`` below 1; or another process
            scores it.
    """
    if max_clips is not None:
        check_least("--max-clips", max_clips, 1)  # before any model is loaded
    reconstructor = Reconstructor.from_run(run, data_root, backbone, cache)
    setup = reconstructor.setup
    samples, choices, skipped = evaluation_set(setup, split, max_clips, eval_index)
    perceptual, reason = perceptual_metrics(setup.backbone.device, setup.height, setup.width)
    name = report_name(split)
    scores = Scores()
    with scoring(run, name) as path:
        for index in tqdm(range(len(samples)), desc="evaluate", unit="scene", disable=None):
            sample = samples[index]
            if not isinstance(sample, NVSSample):
                skipped.append({"key": sample.key, "reason": sample.reason})
                continue
            picture = run / name / f"{file_name(sample.clip_key)}.png"
            _score_scene(
                reconstructor, sample, perceptual, scores, picture if index < _PICTURES else None
            )
        report = make_report(
            setup,
            reconstructor.step,
            scores,
            choices,
            split=split,
            skipped=skipped,
            no_lpips=reason,
        )
        write_json(path, report)
    return table(report)


def evaluation_set(
    setup: Setup, split: str, max_clips: int | None = None, eval_index: Path | None = None
) -> tuple[EvaluationDataset, FrameChoices, list[dict[str, str]]]:
    """Load what a run is scored on; arguments as :func:`eval_3dgs`.

    Returns:
        The samples, how their frames were chosen, and what was left out (``key``, ``reason``).
    """
    data = setup.config.data
    limits = [
        data.max_eval_clips if max_clips is None else max_clips,
        data.max_clips if split == "train" else None,
    ]
    loaded = load_split(
        setup.card,
        find_or_make_root(setup.card, data.root),
        split,
        max_clips=min((limit for limit in limits if limit is not None), default=None),
        split_seed=data.split_seed,
    )
    choices = frame_choices(setup, loaded.clips, eval_index)
    samples = EvaluationDataset(
        loaded.clips, setup.card, choices, height=setup.height, width=setup.width
    )
    skipped = [{"key": s.key, "reason": s.reason} for s in [*loaded.skipped, *samples.skipped]]
    return samples, choices, skipped


def frame_choices(
    setup: Setup, clips: list[PosedClip], eval_index: Path | None = None
) -> FrameChoices:
    """Choose input and held-out frames of every clip: by an evaluation index, else evenly."""
    data = setup.config.data
    index = eval_index or data.eval_index
    if index is not None:
        return index_choices(clips, load_eval_index(Path(index)), frames=setup.frames)
    return even_choices(clips, setup.card, frames=setup.frames, targets=data.eval_targets)


@torch.no_grad()
def _score_scene(
    reconstructor: Reconstructor,
    sample: NVSSample,
    perceptual: Mapping[str, nn.Module],
    scores: Scores,
    picture: Path | None,
) -> None:
    batch = collate([sample]).to(reconstructor.setup.backbone.device)
    gaussians = reconstructor.reconstruct(batch)[0]
    height, width = batch.video.shape[-2:]
    inputs = batch.video[0].transpose(0, 1)  # [F, 3, H, W]
    truth = batch.target_images[0]
    out = render(gaussians, batch.target_viewmats[0], batch.target_Ks[0], height, width)
    seen = render(gaussians, batch.input_viewmats[0], batch.input_Ks[0], height, width)
    rendered = out.image.movedim(-1, 1)
    nearest = inputs[_nearest_inputs(batch)]
    pairs = {
        "held_out": (rendered, truth),
        "nearest_input": (nearest, truth),
        "inputs": (seen.image.movedim(-1, 1), inputs),
    }
    for row, (images, references) in pairs.items():
        values = score_views(images, references, perceptual)
        values["psnr"] = values["psnr"].clamp(max=EQUAL_PSNR)
        scores.scenes[row][sample.clip_key] = {m: float(v.mean()) for m, v in values.items()}
    scores.views += len(truth)
    if picture is not None:
        near, far = depth_range(out.depth, out.alpha)
        columns = [truth, rendered, colorize_depth(out.depth, out.alpha, near, far), nearest]
        columns = [to_uint8(c if c.shape[-1] == 3 else c.movedim(1, -1)) for c in columns]
        grid = side_by_side(
            list(zip(*columns, strict=True)),
            ["truth", "render", "depth", "nearest input"],
            row_titles=[f"frame {i}" for i in batch.target_indices[0].tolist()],
            note=reconstructor.setup.notice,
            scale=2 if height < 200 else 1,
        )
        save_png(grid, picture)


def _nearest_inputs(batch: NVSBatch) -> Tensor:
    """For each held-out frame [V], the position of the input frame nearest in time."""
    gaps = (batch.target_indices[0][:, None] - batch.input_indices[0][None]).abs()
    return gaps.argmin(1)
