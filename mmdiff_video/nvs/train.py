"""``mmdiff-video train-3dgs``: train a reconstructor on posed clips."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdiff_video.assembly import CacheUse, Training, train_run
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.clips.views import NVSBatch, NVSSample, PosedVideoDataset, collate
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.objective import RenderLoss, render
from mmdiff_video.nvs.setup import Setup, set_up
from mmdiff_video.pictures import colorize_depth, depth_range, side_by_side, to_uint8
from mmdiff_video.process import processes
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.tables import format_count
from mmdiff_video.training import TrainResult, count_parameters
from recon.decoder import gaussian_count


def train_3dgs(
    config: NVSConfig, out: Path, *, resume: bool = False, backbone: Backbone | None = None
) -> TrainResult:
    """Train, and leave a run folder that evaluation and rendering open.

    Args:
        config: see :class:`NVSConfig`.
        out: the run folder.
        resume: go on from its newest checkpoint.
        backbone: one that is loaded already, when several runs share it.

    Raises:
        InputError: a config, data or a run folder that cannot be trained with.
    """
    setup = set_up(config, backbone)
    config, data = setup.config, setup.config.data
    setup.source.check_memory(setup.frames, setup.height, setup.width, config.train.batch_size)
    with processes().main_process_first():  # which may make the procedural set for all
        root = find_or_make_root(setup.card, data.root)
    loaded = load_split(
        setup.card, root, "train", max_clips=data.max_clips, split_seed=data.split_seed
    )
    samples = PosedVideoDataset(
        loaded.clips,
        setup.card,
        frames=setup.frames,
        targets=data.targets,
        height=setup.height,
        width=setup.width,
        seed=config.train.seed,
        samplings_per_clip=data.samplings_per_clip,
    )
    # absolute, so that the run can be evaluated from another folder
    setup = replace(setup, config=replace(config, data=replace(data, root=str(root.resolve()))))
    skipped = [*loaded.skipped, *samples.skipped]
    training = Training(
        kind="3dgs",
        setup=setup,
        model=setup.model,
        samples=samples,
        collate=collate,
        loss=_Loss(setup),
        preview=_Preview(setup, samples),
        parameters=count_parameters(setup.model),
        number=len(samples.clips),
        skipped=skipped,
        summary=_summary(setup, samples, len(skipped)),
        caches=_caches(setup, samples),
    )
    return train_run(training, out, resume=resume)


class _Loss:
    """The loss of one batch, on its held-out views and some of its input views."""

    def __init__(self, setup: Setup):
        self.setup = setup
        with processes().main_process_first():  # which may download LPIPS weights for all
            self.render_loss = RenderLoss(setup.config.loss, setup.backbone.device)

    def __call__(self, model: nn.Module, batch: NVSBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        gaussians = self.setup.reconstruct(model, batch)
        images, viewmats, Ks = batch.target_images, batch.target_viewmats, batch.target_Ks
        count = min(self.setup.config.data.input_targets, batch.video.shape[2])
        if count:
            # the loop has seeded torch from (seed, step, process)
            chosen = torch.randperm(batch.video.shape[2])[:count].to(batch.video.device)
            images = torch.cat([images, batch.video[:, :, chosen].transpose(1, 2)], 1)
            viewmats = torch.cat([viewmats, batch.input_viewmats[:, chosen]], 1)
            Ks = torch.cat([Ks, batch.input_Ks[:, chosen]], 1)
        return self.render_loss(gaussians, images, viewmats, Ks)


class _Preview:
    """Draws the held-out views of the first sample: truth, render, depth."""

    def __init__(self, setup: Setup, samples: PosedVideoDataset):
        self.setup = setup
        self.samples = samples

    def __call__(self, model: nn.Module, step: int, path: Path) -> None:
        sample = self.samples.sample(0, 0)
        if not isinstance(sample, NVSSample):
            return  # broken: the loop counts it
        batch = collate([sample]).to(self.setup.backbone.device)
        height, width = batch.video.shape[-2:]
        gaussians = self.setup.reconstruct(model, batch)[0]
        out = render(gaussians, batch.target_viewmats[0], batch.target_Ks[0], height, width)
        near, far = depth_range(out.depth, out.alpha)
        depth = to_uint8(colorize_depth(out.depth, out.alpha, near, far))
        truth = to_uint8(batch.target_images[0].movedim(1, -1))
        rendered = to_uint8(out.image)
        picture = side_by_side(
            list(zip(truth, rendered, depth, strict=True)),
            ["truth", f"render, step {step}", "depth"],
            note=self.setup.notice,
            scale=2 if height < 200 else 1,
        )
        picture.save(path)


def _summary(setup: Setup, samples: PosedVideoDataset, skipped: int) -> list[str]:
    """Say what the run trains on."""
    frames, height, width = setup.frames, setup.height, setup.width
    grid = setup.backbone.geometry.token_grid(frames, height, width)
    gaussians = gaussian_count(setup.config.decoder, frames=frames, height=height, width=width)
    return [
        f"{setup.card.title}: {len(samples.clips)} clips, {skipped} left out (see run.json)",
        f"{setup.backbone.name}: {frames} frames of {width}x{height},"
        f" tokens {' x '.join(map(str, grid))}, input {setup.config.input}",
        f"{format_count(gaussians)} Gaussians a clip",
    ]


def _caches(setup: Setup, samples: PosedVideoDataset) -> list[CacheUse]:
    if setup.source.cache is None:
        return []
    size = setup.source.bytes_per_sample(setup.frames, setup.height, setup.width)
    return [
        CacheUse(
            cache=setup.source.cache,
            bytes_per_sample=size,
            samples=len(samples),
            fixed=setup.config.data.samplings_per_clip is not None,
            fixed_by="data.samplings_per_clip",
        )
    ]
