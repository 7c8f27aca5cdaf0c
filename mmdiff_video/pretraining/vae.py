"""``mmdiff-video pretrain vae``: train the VAE of a nano backbone on a corpus of clips."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmdiff_video.backbones.cards import load_card
from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_folder, write_folder_aside, write_json
from mmdiff_video.pretraining.coders import Coder, WanCoder, load_coder, new_coder
from mmdiff_video.pretraining.config import VAEConfig, VAEStageConfig
from mmdiff_video.pretraining.corpus import Corpus, open_corpora
from mmdiff_video.pretraining.reports import (
    REPORT,
    clips_of_stages,
    describe_hardware,
    keep_origin,
    origin,
    training_hours,
)
from mmdiff_video.pretraining.runs import (
    alone_in_folder,
    open_run,
    starting_weights,
    train_stages,
)
from mmdiff_video.pretraining.sealed import seal_weights
from mmdiff_video.pretraining.sheets import contact_sheet
from mmdiff_video.pretraining.vae_loss import VAELoss, to_video
from mmdiff_video.pretraining.widening import widen
from mmdiff_video.process import processes, this_device
from mmdiff_video.seeds import stable_seed
from mmdiff_video.training import Trainer
from mmdiff_video.training.precision import takes_bf16
from mmdiff_video.version import __version__
from recon.metrics import psnr, ssim, to_8bit
from recon.perceptual import LpipsUnavailable

logger = logging.getLogger(__name__)

_SHEET_CLIPS = 4
_STATISTICS_CLIPS = 512


@alone_in_folder
def train_vae(
    config: VAEConfig, out: Path, *, resume: bool = False, init: Path | None = None
) -> None:
    """Train through all stages and leave the finished VAE in ``out/vae``, in bfloat16.

    A signal (SIGINT, SIGTERM) ends it after a step, with a checkpoint and without a VAE.

    Args:
        config: see :class:`VAEConfig`.
        out: the run folder: config.yaml, a folder for each stage, ``vae/`` and ``report.json``.
        resume: go on from the newest checkpoint of the newest stage.
        init: start from a finished run's weights or a backbone's folder, with a fresh optimiser.

    Raises:
        InputError: anything wrong with the config, the corpus, the run folder or ``init``.
    """
    config = open_run(config, out, resume=resume)
    if config.threads:
        torch.set_num_threads(config.threads)
    corpora = open_corpora(config.corpus)
    card = load_card(config.backbone)
    card = replace(card, vae={**card.vae, **config.widths()})
    torch.manual_seed(config.train.seed)
    coder = new_coder(card)
    if init is not None:
        start_from(coder, load_coder(starting_weights(init, "vae"), card.pipeline))
        keep_origin(out, init, "vae", normalization=_normalization(coder))
    loss = VAELoss(config.loss, this_device())

    def trainer(stage: VAEStageConfig, run: Path, resume: bool) -> Trainer:
        coder.freeze_encoder(stage.decoder_only)
        own = open_corpora(stage.corpus) if stage.corpus else corpora
        samples = Crops(own["train"], stage, seed=config.train.seed)
        settings = stage.over(config.train)
        bf16 = takes_bf16(settings.precision, this_device())
        preview = ReconstructionSheet(own["val"], bf16=bf16)
        error = VAELoss(stage.loss, this_device()) if stage.loss else loss
        return Trainer(run, coder, samples, error, settings, preview=preview, resume=resume)

    if not train_stages(config.stages, out, coder, trainer):
        return
    if processes().is_main_process:
        coder.eval().requires_grad_(False)
        began = origin(out)
        if began and all(stage.decoder_only for stage in config.stages):
            # the latents are what they were, and so is what a DiT was trained on
            coder.vae.register_to_config(**began["began_as"]["normalization"])
        else:
            coder.normalize(*latent_statistics(coder, corpora["train"], _STATISTICS_CLIPS))
        report = {
            "version": __version__,
            "backbone": config.backbone,
            "corpus": corpora["train"].manifest,
            "clips": clips_of_stages(config),
            "parameters": sum(p.numel() for p in coder.parameters()),
            "steps": {stage.name: stage.steps for stage in config.stages},
            "hours": training_hours(out, config.stages),
            "hardware": describe_hardware(this_device()),
            **began,
            "perceptual_term": not isinstance(loss.lpips, LpipsUnavailable),
            "normalization": _normalization(coder),
            "val": _finish(coder, corpora["val"], out / "vae"),
        }
        write_json(out / REPORT, report)
        logger.info("%s: %s", out / "vae", report["val"])


def start_from(coder: Coder, trained: Coder) -> None:
    """Take over trained weights; a wider part begins by computing what the narrow one did.

    Args:
        coder: is filled.
        trained: of the same architecture; for Wan, of the same or narrower widths.

    Raises:
        InputError: another architecture.
    """
    if isinstance(coder, WanCoder):
        widen(trained.vae, coder.vae)
        return
    try:
        coder.load_state_dict(trained.state_dict())
    except RuntimeError:
        raise InputError("the VAE to start from is not of the card's architecture") from None
    coder.vae.register_to_config(**_normalization(trained))


class Crops:
    """A training set of random crops of the corpus' clips: uint8 [F, H, W, 3].

    Args:
        corpus: the clips.
        stage: size and frames of the crops.
        seed: together with epoch and index it fixes a crop.

    Raises:
        InputError: crops that are larger than the clips.
    """

    def __init__(self, corpus: Corpus, stage: VAEStageConfig, seed: int):
        frames, height, width, _ = corpus.clip(0).shape
        window = stage.crop * (2 if stage.half_size > 0 else 1)
        if stage.frames > frames or window > min(height, width):
            raise InputError(
                f"stage '{stage.name}': a crop of {stage.frames} x {window} x {window} does not fit"
                f" into clips of {frames} x {height} x {width}"
            )
        self.corpus, self.stage, self.seed = corpus, stage, seed

    def __len__(self) -> int:
        return len(self.corpus)

    def sample(self, index: int, epoch: int) -> Tensor:
        """Cut a crop at a random place and frame, perhaps mirrored or from the half-size clip."""
        rng = np.random.default_rng(stable_seed("crop", self.seed, epoch, index))
        clip = self.corpus.clip(index)
        frames, crop = self.stage.frames, self.stage.crop
        half = rng.random() < self.stage.half_size
        window = crop * 2 if half else crop
        first, y, x = (
            int(rng.integers(size - part + 1))
            for size, part in zip(clip.shape[:3], (frames, window, window), strict=True)
        )
        pixels = clip[first : first + frames, y : y + window, x : x + window]
        if half:
            pixels = halved(pixels)
        if rng.random() < 0.5:
            pixels = pixels[:, :, ::-1]
        return torch.from_numpy(pixels.copy())  # the map is read-only


def halved(pixels: np.ndarray) -> np.ndarray:
    """Average uint8 [F, H, W, 3] over 2 x 2 pixels."""
    frames, height, width, _ = pixels.shape
    cells = pixels.reshape(frames, height // 2, 2, width // 2, 2, 3).astype(np.uint16)
    return ((cells.sum((2, 4)) + 2) // 4).astype(np.uint8)


class ReconstructionSheet:
    """Scores the averaged model on held-out rooms at full size, and draws some of them.

    Args:
        corpus: the held-out clips.
        bf16: compute under autocast.
    """

    def __init__(self, corpus: Corpus, *, bf16: bool):
        self.corpus, self.bf16 = corpus, bf16

    def __call__(self, model: nn.Module, step: int, path: Path) -> dict[str, float]:
        """Write the sheet to ``path``; returns PSNR in dB, of all frames and of the first ones."""
        assert isinstance(model, Coder)
        scores, rows = [], []
        for index, video, output in reconstructions(model, self.corpus, bf16=self.bf16):
            scores.append(psnr(to_8bit(output), video))
            if index < _SHEET_CLIPS:
                shown = sorted({0, len(video) // 2, len(video) - 1})
                rows.append([video[i] for i in shown] + [output[i] for i in shown])
        contact_sheet(rows, note=f"truth and reconstruction, step {step}").save(path)
        values = torch.stack(scores)  # [clips, F]
        return {
            "val_psnr": float(values.mean()),
            "val_psnr_first_frame": float(values[:, 0].mean()),
        }


@torch.no_grad()
def reconstructions(
    model: Coder, corpus: Corpus, *, bf16: bool
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Reconstruct every clip at full size: index, truth and output, both [F, 3, H, W] in [0, 1]."""
    device = next(model.parameters()).device
    for index in range(len(corpus)):
        video = to_video(torch.from_numpy(corpus.clip(index)[None].copy()).to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            mean, _ = model.posterior(video)
            output = model.decode(mean)
        frames = [(v[0].float().clamp(-1, 1) / 2 + 0.5).transpose(0, 1) for v in (video, output)]
        yield index, frames[0], frames[1]


def _normalization(coder: Coder) -> dict[str, Any]:
    """Return what the VAE's config says of how its latents are normalised."""
    return {name: coder.vae.config[name] for name in coder.normalization}


def _finish(coder: Coder, val: Corpus, folder: Path) -> dict[str, float]:
    """Write the diffusers folder in bfloat16, and score what a user will load."""
    nn.Module.to(coder, torch.bfloat16)
    if folder.exists():
        remove_folder(folder)
    with write_folder_aside(folder) as aside:
        coder.vae.save_pretrained(aside)
        seal_weights(aside)
    coder.float()
    return reconstruction_scores(coder, val)


def reconstruction_scores(coder: Coder, corpus: Corpus) -> dict[str, float]:
    """Score 8-bit reconstructions of every clip at full size, in float32; the mean over clips."""
    scores: dict[str, list[Tensor]] = {"psnr": [], "ssim": [], "psnr_first_frame": []}
    for _, video, output in reconstructions(coder, corpus, bf16=False):
        shown = to_8bit(output)
        values = psnr(shown, video)
        scores["psnr"].append(values.mean())
        scores["psnr_first_frame"].append(values[0])
        scores["ssim"].append(ssim(shown, video).mean())
    means = {name: float(torch.stack(values).mean()) for name, values in scores.items()}
    return means | {"clips": len(corpus)}


@torch.no_grad()
def latent_statistics(coder: Coder, corpus: Corpus, clips: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [c] of the latents (posterior means) of the first clips."""
    device = next(coder.parameters()).device
    total, square, count = 0.0, 0.0, 0
    for index in range(min(clips, len(corpus))):
        video = to_video(torch.from_numpy(corpus.clip(index)[None].copy()).to(device))
        values = coder.posterior(video)[0].transpose(0, 1).flatten(1).double()  # [c, N]
        total = total + values.sum(1)
        square = square + values.square().sum(1)
        count += values.shape[1]
    assert isinstance(total, Tensor)
    mean = total / count
    return mean.float(), (square / count - mean.square()).clamp_min(0).sqrt().float()
