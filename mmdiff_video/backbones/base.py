"""The interface every frozen diffusion transformer is used through.

A backbone never knows a task; a task never knows which backbone it has. Videos are
``[B, 3, F, H, W]`` in [0, 1], latents ``[B, c, F, h, w]`` in the backbone's normalised scale (for
images too, F = 1), timesteps floats in [0, 1] with 1 = pure noise: the sigma of flow matching.

:class:`Backbone` holds all that the families share; an adapter (``wan.py``, ``flux.py``) adds the
few methods that differ.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.concepts.reader import ConceptReader
from mmdiff_video.backbones.extract import Reading, read_latent
from mmdiff_video.backbones.features import DiTFeatures, TapSpec
from mmdiff_video.backbones.noise import keyed_noise, noised
from mmdiff_video.backbones.sample import sample
from mmdiff_video.backbones.taps import resolve_taps
from mmdiff_video.backbones.text_cache import TextCache
from mmdiff_video.backbones.types import (
    BackboneDefaults,
    Generated,
    LatentGeometry,
    Layout,
    TextEmbedding,
)
from mmdiff_video.checks import check_least, check_seed
from mmdiff_video.errors import InputError

__all__ = [
    "UNTRAINED_NOTICE",
    "Backbone",
    "BackboneDefaults",
    "Generated",
    "LatentGeometry",
    "Layout",
    "TextEmbedding",
    "keyed_noise",
]

UNTRAINED_NOTICE = "untrained backbone: random weights, so these are not results"


class Backbone(ABC):
    """A frozen diffusion transformer with its VAE and text encoder.

    Attributes:
        name: how the user asked for it (``wan``, ``nano-flux``, a hub id, a folder).
        defaults: see :class:`BackboneDefaults`.
        geometry: see :class:`LatentGeometry`.
        untrained: True for random weights; everything made from them must say so.
        fingerprint: identifies the weights; changes when they do. Part of every cache key.
        device, dtype: where and in what the transformer computes.
        pipeline: the stock diffusers pipeline, unmodified.
        chunk_limits: token grid (F, H, W) -> rows of a forward that fitted after more did not.
    """

    #: Name of the registered backbone whose defaults fit any model of the family.
    family: ClassVar[str]
    #: The list of blocks that concept maps are read from, all of them unless the caller chooses.
    concept_stream: ClassVar[str]
    #: dtype of single components on CUDA where it differs from the transformer's.
    cuda_dtypes: ClassVar[Mapping[str, torch.dtype]] = {}

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str,
        defaults: BackboneDefaults,
        untrained: bool,
        fingerprint: str,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.pipeline = pipeline
        self.name = name
        self.defaults = defaults
        self.untrained = untrained
        self.fingerprint = fingerprint
        self.device = device
        self.dtype = dtype
        self.chunk_limits: dict[tuple[int, ...], int] = {}
        self._layout = self.layout(pipeline.transformer.config, pipeline.vae.config)
        self.geometry = self._layout.geometry
        self._texts = TextCache(self._encode_prompt)
        pipeline.set_progress_bar_config(disable=True)
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval().requires_grad_(False)

    # What a family adapter supplies.

    @classmethod
    @abstractmethod
    def layout(cls, transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> Layout:
        """Read blocks and geometry off the two diffusers configs (``config.json``)."""

    @abstractmethod
    def _blocks(self) -> Mapping[str, nn.ModuleList]:
        """Stream name -> its blocks, in forward order."""

    @abstractmethod
    def picture_tokens(self, block_output: Any) -> Tensor:
        """Pick the picture tokens [N, L, C], in (t, h, w) order, out of a block's output."""

    @abstractmethod
    def _vae_encode(self, pictures: Tensor) -> Tensor:
        """[N, 3, F, H, W] in [-1, 1], VAE's dtype -> normalised latents (image model: F = 1)."""

    @abstractmethod
    def _vae_decode(self, latent: Tensor) -> Tensor:
        """Inverse of :meth:`_vae_encode`, to about [-1, 1]."""

    @abstractmethod
    def _encode_prompt(self, prompt: str) -> TextEmbedding:
        """Encode one prompt with the stock pipeline's own method."""

    @abstractmethod
    def velocity(
        self, noisy: Tensor, t: Tensor, text: TextEmbedding, guidance: float | None
    ) -> Tensor:
        """Run the transformer once and return its prediction, the flow's velocity.

        Args:
            noisy: [N, c, F, h, w] float32 (image model: F = 1).
            t: [N] float32.
            text: N rows.
            guidance: value embedded in a guidance-distilled model; others ignore it.
        """

    @abstractmethod
    def concept_reader(
        self, concepts: Sequence[str], blocks: Sequence[int], text: TextEmbedding
    ) -> ConceptReader:
        """Make what reads concept maps during forwards.

        Args:
            concepts: as :attr:`Reading.concepts`; not empty.
            blocks: indices in ``concept_stream``, ascending.
            text: the text of the forwards, one row or as many as theirs.
        """

    @abstractmethod
    def _call_arguments(
        self, text: TextEmbedding, negative_prompt: str | None, guidance: float, frames: int
    ) -> dict[str, Any]:
        """Keyword arguments of the stock pipeline's call that the families name differently."""

    @abstractmethod
    def sampled_latent(self, latents: Tensor, height: int, width: int) -> Tensor:
        """Turn the pipeline's own latents into [1, c, F, h, w]."""

    @abstractmethod
    def sampled_video(self, output: Any) -> Tensor:
        """Turn the pipeline's output (``output_type="pt"``) into [1, 3, F, H, W] in [0, 1]."""

    # What every backbone does.

    def tap_specs(self) -> list[TapSpec]:
        """All blocks that can be tapped, in forward order."""
        return list(self._layout.taps)

    def resolve_taps(self, taps: Sequence[str | int] | None = None) -> list[TapSpec]:
        """Turn tap names and short forms into specs in forward order, without duplicates.

        ``double.12``, ``single.15``, ``block.7`` are names; ``4`` and ``-1`` count in the default
        stream (FLUX: ``single``); ``last-4`` is its last four blocks. None means the defaults.

        Raises:
            InputError: an unknown tap; the message lists the valid ones.
        """
        wanted = self.defaults.taps if taps is None else taps
        return resolve_taps(wanted, self._layout.taps, self._layout.default_stream)

    def tap_modules(self, specs: Sequence[TapSpec]) -> dict[str, nn.Module]:
        """Look up the blocks of the transformer that taps name: tap name -> module."""
        blocks = self._blocks()
        return {spec.name: blocks[spec.stream][spec.index] for spec in specs}

    @property
    def vae_settings(self) -> dict[str, Any]:
        """What changes latents beside the weights, where it is not as usual; part of cache keys."""
        vae = self.pipeline.vae
        settings = {} if vae.dtype == torch.float32 else {"dtype": str(vae.dtype)}
        if vae.use_tiling:
            settings |= {name: v for name, v in vars(vae).items() if name.startswith("tile_")}
        return settings

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """VAE-encode ``[B, 3, F, H, W]`` in [0, 1] to normalised latents, float32.

        Deterministic (the posterior's mode). An image backbone folds the frames into the batch.

        Raises:
            InputError: no video tensor, or a size that :meth:`LatentGeometry.check_size` refuses.
        """
        if video.ndim != 5 or video.shape[1] != 3:
            raise InputError(f"a video must be [B, 3, F, H, W], not {list(video.shape)}")
        self.geometry.check_size(*video.shape[2:])
        # to [-1, 1] first, as in the stock pipelines: bf16 rounds values near 0 least
        pictures = self.fold(video).to(self.device, torch.float32) * 2 - 1
        latent = self._vae_encode(pictures.to(self.pipeline.vae.dtype))
        return self.unfold(latent.float(), video.shape[0])

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """VAE-decode latents to ``[B, 3, F, H, W]`` in [0, 1], float32."""
        pictures = self._vae_decode(self.fold(latent).to(self.device, self.pipeline.vae.dtype))
        return self.unfold((pictures.float() / 2 + 0.5).clamp(0, 1), latent.shape[0])

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> TextEmbedding:
        """Encode prompts as the stock pipeline does, each distinct one once."""
        if isinstance(prompts, str):
            prompts = [prompts]
        return self._texts(prompts)

    def add_noise(
        self, latent: Tensor, t: float | Tensor, keys: Sequence[str], seed: int = 0
    ) -> Tensor:
        """Noise latents to t: ``x_t = (1 - t) x_0 + t eps`` in float32 (flow matching; t is sigma).

        Args:
            latent: [B, c, F, h, w].
            t: one timestep, or one per sample [B].
            keys: one sample key each; eps comes from (key, seed) alone.
            seed: see ``keys``.
        """
        x0 = latent.float()
        t = torch.as_tensor(t, dtype=torch.float32, device=x0.device)
        return noised(x0, self._noise(x0, keys, seed), t.reshape(-1, *[1] * (x0.ndim - 1)))

    def extract(
        self,
        video: Tensor,
        prompt: str | Sequence[str] | None = None,
        taps: Sequence[str | int] | None = None,
        timesteps: Sequence[float] | None = None,
        *,
        keys: Sequence[str],
        seed: int = 0,
        chunk: int | None = None,
        concepts: Sequence[str] | None = None,
        concept_blocks: Sequence[str | int] | None = None,
    ) -> DiTFeatures:
        """Read the taps on real data: encode, noise to each t, forward to the last tapped block.

        Args:
            video: [B, 3, F, H, W] in [0, 1].
            prompt: one for all samples or one each; None means ``defaults.prompt``.
            taps, timesteps: None means the defaults. Without taps (an empty list) and concepts the
                transformer does not run and only the latent is read.
            keys: one sample key each; the noise is drawn from (key, seed) alone.
            seed: see ``keys``.
            chunk: at most this many rows in one forward: (sample, timestep) pairs, for an image
                backbone (sample, timestep, frame) triples. None: all that fit in memory.
            concepts: words such as object, background, whose maps are read too; or
                ``[PROMPT_WORDS]``. See :mod:`mmdiff_video.backbones.concepts.reader`.
            concept_blocks: blocks whose concept maps are averaged, as taps of ``concept_stream``;
                None means all of them.

        Returns:
            Maps in the backbone's dtype on its device. A clip gives an image backbone F = frames.
            Concept maps are in float32 and averaged over the timesteps.

        Raises:
            InputError: a size, tap, timestep, concept, or number of keys or prompts that does not
                fit.
        """
        # before any work that would be wasted
        Reading.of(self, taps, timesteps, concepts, concept_blocks)
        latent = self.encode(video)
        return self.extract_latent(
            latent,
            prompt,
            taps,
            timesteps,
            keys=keys,
            seed=seed,
            chunk=chunk,
            concepts=concepts,
            concept_blocks=concept_blocks,
        )

    @torch.no_grad()
    def extract_latent(
        self,
        latent: Tensor,
        prompt: str | Sequence[str] | None = None,
        taps: Sequence[str | int] | None = None,
        timesteps: Sequence[float] | None = None,
        *,
        keys: Sequence[str],
        seed: int = 0,
        chunk: int | None = None,
        guidance: float | None = None,
        concepts: Sequence[str] | None = None,
        concept_blocks: Sequence[str | int] | None = None,
    ) -> DiTFeatures:
        """Read the taps on a clean latent ``[B, c, F, h, w]``; :meth:`extract` after its encoding.

        Args:
            latent: what :meth:`encode` returns, or a denoised latent.
            prompt, taps, timesteps, keys, seed, chunk: as for :meth:`extract`.
            guidance: value embedded in the forward of a guidance-distilled model; None means
                ``defaults.extract_guidance``.
            concepts, concept_blocks: as for :meth:`extract`.
        """
        reading = Reading.of(self, taps, timesteps, concepts, concept_blocks)
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk must be at least 1, not {chunk}")
        x0 = latent.to(self.device, torch.float32)
        if not reading.blocks:
            return DiTFeatures({}, reading.timesteps, reading.timesteps, x0, self.untrained)
        text = self.encode_text(self._prompts(prompt, len(x0)))
        eps = self._noise(x0, keys, seed)
        if guidance is None:
            guidance = self.defaults.extract_guidance
        return read_latent(self, x0, eps, text, reading, guidance, chunk)

    @torch.no_grad()
    def generate(
        self,
        prompt: str,
        taps: Sequence[str | int] | None = None,
        timesteps: Sequence[float] | None = None,
        *,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        frames: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        concepts: Sequence[str] | None = None,
        concept_blocks: Sequence[str | int] | None = None,
    ) -> Generated:
        """Sample from a prompt and tap the run itself, on the conditional branch only.

        Taps are read at the steps whose sigma is nearest to each t; a t nearer to 0 than to the
        last sigma of the schedule costs one extra forward on the final latent, noised to t. The
        sample is bit-identical to an untapped run of the diffusers pipeline with
        ``torch.Generator("cpu").manual_seed(seed)``. Concept maps are read at the same steps.

        Raises:
            InputError: a size that does not fit, no steps, a guidance or seed out of range, or a
                schedule so short that two t share a step.
        """
        d = self.defaults
        reading = Reading.of(self, taps, timesteps, concepts, concept_blocks)
        if not reading.blocks:  # then no schedule is too short
            reading = replace(reading, timesteps=())
        height = d.height if height is None else height
        width = d.width if width is None else width
        if frames is None:
            frames = d.frames if self.geometry.is_video else 1
        self.geometry.check_size(frames, height, width)
        steps = d.steps if steps is None else steps
        check_least("steps", steps, 1)
        check_seed("seed", seed)
        if not self.geometry.is_video and frames != 1:
            raise InputError(f"'{self.name}' draws single pictures: frames must be 1, not {frames}")
        guidance = d.guidance if guidance is None else guidance
        if not math.isfinite(guidance):
            raise InputError(f"guidance is {guidance}: it must be a finite number")
        text = self.encode_text([prompt])

        return sample(
            self,
            prompt,
            text,
            reading,
            size=(frames, height, width),
            arguments={
                "height": height,
                "width": width,
                "num_inference_steps": steps,
                "generator": torch.Generator("cpu").manual_seed(seed),
                "output_type": "pt",
                **self._call_arguments(text, negative_prompt, guidance, frames),
            },
            guidance=guidance,
            seed=seed,
        )

    def _prompts(self, prompt: str | Sequence[str] | None, batch: int) -> list[str]:
        if prompt is None:
            prompt = self.defaults.prompt
        prompts = [prompt] * batch if isinstance(prompt, str) else list(prompt)
        if len(prompts) != batch:
            raise InputError(f"{len(prompts)} prompts for {batch} samples; give one, or one each")
        return prompts

    def _noise(self, x0: Tensor, keys: Sequence[str], seed: int) -> Tensor:
        if isinstance(keys, str) or len(keys) != x0.shape[0]:
            raise InputError(f"{x0.shape[0]} samples need as many sample keys, not {keys!r}")
        check_seed("seed", seed)
        return keyed_noise(keys, seed, x0.shape[1:]).to(x0.device)

    def fold(self, video: Tensor) -> Tensor:
        """[B, C, F, H, W] -> for an image backbone [B*F, C, 1, H, W]."""
        if self.geometry.is_video:
            return video
        return video.transpose(1, 2).flatten(0, 1)[:, :, None]

    def unfold(self, rows: Tensor, batch: int) -> Tensor:
        """Inverse of :meth:`fold` for a batch of ``batch``."""
        if self.geometry.is_video:
            return rows
        return rows[:, :, 0].unflatten(0, (batch, -1)).transpose(1, 2).contiguous()
