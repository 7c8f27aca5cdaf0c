"""``mmdiff-video pretrain dit``: train the DiT of a nano backbone with its text encoders."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.cards import BackboneCard, load_card
from mmdiff_video.backbones.families import family_of
from mmdiff_video.backbones.nano.parts import load_vae, make_pipeline
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.files import write_json
from mmdiff_video.pretraining.coders import load_coder
from mmdiff_video.pretraining.config import DiTConfig, DiTStageConfig
from mmdiff_video.pretraining.corpus import open_corpora
from mmdiff_video.pretraining.denoisers import Denoiser, load_denoiser, new_denoiser
from mmdiff_video.pretraining.flow import (
    NO_GUIDANCE,
    OBJECTIVES,
    flow_point,
    sample_weight,
)
from mmdiff_video.pretraining.latents import Latents, vae_encoder
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
from mmdiff_video.pretraining.sheets import contact_sheet
from mmdiff_video.pretraining.vae import reconstruction_scores
from mmdiff_video.process import processes, this_device
from mmdiff_video.seeds import stable_seed
from mmdiff_video.training import Trainer
from mmdiff_video.training.precision import takes_bf16
from mmdiff_video.version import __version__

logger = logging.getLogger(__name__)

_TIMESTEPS = 8
_CLIP_FRAMES = 3
_PICTURES = 4


@alone_in_folder
def train_dit(
    config: DiTConfig, out: Path, *, resume: bool = False, init: Path | None = None
) -> None:
    """Train through all stages; ``mmdiff-video pretrain export`` makes a backbone of the run.

    A signal (SIGINT, SIGTERM) ends it after a step, with a checkpoint and without a report.

    Args:
        config: see :class:`DiTConfig`.
        out: the run folder: config.yaml, a folder for each stage and, at the end, ``report.json``.
        resume: go on from the newest checkpoint of the newest stage.
        init: start from the weights of a backbone's folder, with a fresh optimiser.

    Raises:
        InputError: anything wrong with the config, the corpus, the VAE, the run folder or ``init``.
    """
    vae_folder = starting_weights(Path(config.vae), "vae")
    config = open_run(config, out, resume=resume)
    if config.threads:
        torch.set_num_threads(config.threads)
    device, card = this_device(), load_card(config.backbone)
    bf16 = takes_bf16(config.train.precision, device)
    torch.manual_seed(config.train.seed)
    if init is None:
        denoiser = new_denoiser(card)
    else:
        starting_weights(init, "transformer")
        denoiser = load_denoiser(init, card)
        keep_origin(out, init, "dit")
    if config.compile:  # copies, as the moving average is one, run as they are
        denoiser.transformer.compile_repeated_blocks()
    backbone = assemble(card, load_vae(vae_folder, card.pipeline), denoiser, device)
    encode = vae_encoder(backbone, bf16=bf16)
    corpora = open_corpora(config.corpus)

    def latents(split: str, stage: DiTStageConfig) -> Latents:
        corpus = open_corpora(stage.corpus) if stage.corpus else corpora
        return Latents(
            corpus[split],
            vae_folder,
            encode,
            half_size=stage.half_size,
            frames=stage.latent_frames,
        )

    def trainer(stage: DiTStageConfig, run: Path, resume: bool) -> Trainer:
        with processes().main_process_first():
            train, val = latents("train", stage), latents("val", stage)
        samples = CaptionedLatents(
            train, denoiser, config.flow.prompt_dropout, seed=config.train.seed
        )
        flow = stage.flow_over(config.flow)
        loss = OBJECTIVES[stage.objective].begin(denoiser, flow, stage.guidance, bf16=bf16)
        validation = Validation(val, denoiser, bf16=bf16)
        preview = SampleSheet(config, card, backbone.pipeline.vae, validation, stage)
        settings = stage.over(config.train)
        return Trainer(run, denoiser, samples, loss, settings, preview=preview, resume=resume)

    if not train_stages(config.stages, out, denoiser, trainer):
        return
    if processes().is_main_process:
        val = latents("val", config.stages[-1])
        coder = load_coder(vae_folder, card.pipeline).to(device).eval()
        report = {
            "version": __version__,
            "backbone": config.backbone,
            "corpus": corpora["train"].manifest,
            "clips": clips_of_stages(config),
            "parameters": {
                name: sum(p.numel() for p in part.parameters())
                for name, part in denoiser.pipeline_components().items()
                if isinstance(part, nn.Module)
            },
            "steps": {stage.name: stage.steps for stage in config.stages},
            "hours": training_hours(out, config.stages),
            "hardware": describe_hardware(device),
            **origin(out),
            "val": Validation(val, denoiser, bf16=bf16)(denoiser.eval()),
            "reconstruction": reconstruction_scores(coder, corpora["val"]),
        }
        write_json(out / REPORT, report)
        logger.info("%s: %s", out, report["val"])


def assemble(card: BackboneCard, vae: nn.Module, denoiser: Denoiser, device) -> Backbone:
    """Make a backbone of modules in memory, to encode and to sample with."""
    pipeline = make_pipeline(card, vae=vae.to(device), **denoiser.pipeline_components())
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    backbone = Backbone(
        pipeline,
        family_of(card.pipeline, "the card"),
        name="in training",
        defaults=card.defaults,
        untrained=False,
        fingerprint="",
        device=device,
        dtype=torch.float32,
    )
    for parameter in trained:  # a backbone freezes what it is made of
        parameter.requires_grad_(True)
    return backbone


class CaptionedLatents:
    """A training set of latents with tokenized captions, some replaced by the empty prompt.

    Args:
        latents: with their captions.
        denoiser: its tokenizers are used.
        prompt_dropout: share of empty prompts; which samples get one depends on (seed, epoch,
            index) alone.
        seed: of that choice.
    """

    def __init__(self, latents: Latents, denoiser: Denoiser, prompt_dropout: float, seed: int):
        self.latents, self.prompt_dropout, self.seed = latents, prompt_dropout, seed
        self.tokens = denoiser.tokenize([*latents.captions, ""])

    def __len__(self) -> int:
        return len(self.latents)

    def sample(self, index: int, epoch: int) -> dict:
        """Read one ``latent`` [c, F, h, w], float16, and its ``tokens``, [length] each."""
        rng = np.random.default_rng(stable_seed("prompt", self.seed, epoch, index))
        row = -1 if rng.random() < self.prompt_dropout else index
        return {
            "latent": self.latents.latent(index),
            "tokens": {name: ids[row] for name, ids in self.tokens.items()},
        }


class Validation:
    """The loss on held-out rooms at fixed timesteps and fixed noise, with three kinds of prompt.

    The prompts are the rooms' own captions, those of other rooms, and the empty one. The margin
    says by how much the right caption lowers the loss against another room's; its standard error is
    over rooms.
    """

    def __init__(self, latents: Latents, denoiser: Denoiser, *, bf16: bool):
        # the unmirrored half
        rows = range(0, len(latents), 2)
        self.x0 = torch.stack([latents.latent(i).float() for i in rows])
        self.eps = torch.stack(
            [
                keyed_noise([latents.keys[i] for i in rows], seed, self.x0.shape[1:])
                for seed in range(_TIMESTEPS)
            ]
        )
        captions = [latents.captions[i] for i in rows]
        half = len(captions) // 2
        self.tokens = {
            "right": denoiser.tokenize(captions),
            "shuffled": denoiser.tokenize([*captions[half:], *captions[:half]]),
            "empty": denoiser.tokenize([""] * len(captions)),
        }
        self.bf16 = bf16

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Score a model: mean losses, the margin and its standard error."""
        device = next(model.parameters()).device
        losses = {}  # kind -> [rooms]
        for kind, tokens in self.tokens.items():
            rooms = torch.zeros(len(self.x0))
            for k in range(_TIMESTEPS):
                t = (k + 0.5) / _TIMESTEPS
                for part in torch.arange(len(self.x0)).split(16):
                    rooms[part] += self._loss(model, tokens, k, t, part, device) / _TIMESTEPS
            losses[kind] = rooms
        margin = losses["shuffled"] - losses["right"]
        return {
            "val_loss": float(losses["right"].mean()),
            "val_loss_shuffled": float(losses["shuffled"].mean()),
            "val_loss_empty": float(losses["empty"].mean()),
            "val_margin": float(margin.mean()),
            "val_margin_error": float(margin.std() / len(margin) ** 0.5),
        }

    def _loss(self, model, tokens, k: int, t: float, part: Tensor, device) -> Tensor:
        x0, eps = self.x0[part].to(device), self.eps[k, part].to(device)
        times = torch.full([len(part)], t, device=device)
        noisy, velocity = flow_point(x0, eps, times)
        chosen = {name: ids[part].to(device) for name, ids in tokens.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            predicted = model(noisy, times, chosen, torch.full_like(times, NO_GUIDANCE))
        errors = (predicted.float() - velocity).square().mean((1, 2, 3, 4))
        return (errors * sample_weight(times) if model.predicts_sample else errors).cpu()


class SampleSheet:
    """Validates the averaged model and samples a fixed list of prompts with it."""

    def __init__(
        self,
        config: DiTConfig,
        card: BackboneCard,
        vae: nn.Module,
        validation: Validation,
        stage: DiTStageConfig,
    ):
        self.config, self.card, self.vae = config, card, vae
        self.validation, self.stage = validation, stage

    def __call__(self, model: nn.Module, step: int, path: Path) -> dict[str, float]:
        """Write the samples to ``path``; returns the validation losses."""
        assert isinstance(model, Denoiser)
        metrics = self.validation(model)
        backbone = assemble(self.card, self.vae, model, next(model.parameters()).device)
        # an image model embeds the scale, and has to learn what it means
        guided = backbone.geometry.is_video or OBJECTIVES[self.stage.objective].teaches_guidance
        guidance = self.card.defaults.guidance if guided else NO_GUIDANCE
        scale = 2 if self.stage.half_size else 1
        clips = self.stage.corpus or self.config.corpus
        length = clips.frames
        if self.stage.latent_frames:
            length = 1 + backbone.geometry.time_stride * (self.stage.latent_frames - 1)
        rows = []
        for prompt in self.config.prompts:
            row = []
            for seed in range(1 if length > 1 else _PICTURES):
                made = backbone.generate(
                    prompt,
                    taps=[],
                    timesteps=[0.5],
                    height=clips.height // scale,
                    width=clips.width // scale,
                    frames=length,
                    steps=self.config.sample_steps,
                    guidance=guidance,
                    seed=self.config.train.seed + seed,
                )
                frames = made.video[0].transpose(0, 1)
                shown = np.linspace(0, len(frames) - 1, min(_CLIP_FRAMES, len(frames))).round()
                row += [frames[int(i)] for i in shown]
            rows.append(row)
        note = f"step {step}, guidance {guidance:g}, validation loss {metrics['val_loss']:.4f}"
        contact_sheet(rows, self.config.prompts, note).save(path)
        return metrics
