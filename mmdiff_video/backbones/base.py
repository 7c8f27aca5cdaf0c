"""The interface every frozen diffusion transformer is used through.

A backbone never knows a task; a task never knows which backbone it has. Videos are
``[B, 3, F, H, W]`` in [0, 1], latents ``[B, c, F, h, w]`` in the backbone's normalised scale (for
images too, F = 1), timesteps floats in [0, 1] with 1 = pure noise: the sigma of flow matching.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.adapter import Adapter
from mmdiff_video.backbones.extract import Reading, read_latent
from mmdiff_video.backbones.family import Family
from mmdiff_video.backbones.features import DiTFeatures, TapSpec
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.backbones.sample import sample
from mmdiff_video.backbones.taps import resolve_taps
from mmdiff_video.backbones.types import BackboneDefaults, Generated, TextEmbedding
from mmdiff_video.checks import check_least, check_seed
from mmdiff_video.errors import InputError

UNTRAINED_NOTICE = "untrained backbone: random weights, so these are not results"


class Backbone:
    """A frozen diffusion transformer with its VAE and text encoders.

    Args:
        pipeline: the stock diffusers pipeline; its modules are frozen and set to eval mode.
        family: the row of the table that describes it.
        name, defaults, untrained, device, dtype: see the attributes.
        fingerprint: of the files that the pipeline was loaded from.

    Attributes:
        name: how the user asked for it (``wan``, ``nano-flux``, a hub id, a folder).
        defaults: see :class:`BackboneDefaults`.
        geometry: see :class:`LatentGeometry`.
        untrained: True for random weights; everything made from them must say so.
        device, dtype: where and in what the transformer computes.
        pipeline: the stock diffusers pipeline, unmodified.
        adapter: see :class:`Adapter`.
    """

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        *,
        name: str,
        defaults: BackboneDefaults,
        untrained: bool,
        fingerprint: str,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.name = name
        self.defaults = defaults
        self.untrained = untrained
        self._files = fingerprint
        self.device = device
        self.dtype = dtype
        self.pipeline = pipeline
        self.adapter = Adapter(
            pipeline,
            family,
            text_tokens=defaults.text_tokens,
            untrained=untrained,
            device=device,
            dtype=dtype,
        )
        self.geometry = self.adapter.geometry

    def tap_specs(self) -> list[TapSpec]:
        """All blocks that can be tapped, in forward order."""
        return list(self.adapter.layout.taps)

    def resolve_taps(self, taps: Sequence[str | int] | None = None) -> list[TapSpec]:
        """Turn tap names and short forms into specs in forward order, without duplicates.

        ``double.12``, ``single.15``, ``block.7`` are names; ``4`` and ``-1`` count in the default
        stream (FLUX: ``single``); ``last-4`` is its last four blocks. None means the defaults.

        Raises:
            InputError: an unknown tap; the message lists the valid ones.
        """
        wanted = self.defaults.taps if taps is None else taps
        layout = self.adapter.layout
        return resolve_taps(wanted, layout.taps, layout.default_stream)

    def tap_modules(self, specs: Sequence[TapSpec]) -> dict[str, nn.Module]:
        """Look up the blocks of the transformer that taps name: tap name -> module."""
        return self.adapter.modules(specs)

    @property
    def fingerprint(self) -> str:
        """Identifies the weights, as they are now; part of every cache key.

        It is that of the files until the pipeline is changed in memory: by a LoRA, fused or not, or
        its scale, another scheduler, a weight written to. See :class:`LoadedState`.
        """
        return self.adapter.loaded.fingerprint(self._files)

    @fingerprint.setter
    def fingerprint(self, of_files: str) -> None:
        self._files = of_files

    @property
    def vae_settings(self) -> dict[str, Any]:
        """Settings of the VAE that change latents, without those left at the usual value.

        Usual are float32 and no tiling, which leave it empty. Part of every cache key.
        """
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
        adapter = self.adapter
        pictures = adapter.fold(video).to(self.device, torch.float32) * 2 - 1
        return adapter.unfold(adapter.encode(pictures), video.shape[0])

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """VAE-decode latents ``[B, c, F, h, w]`` to ``[B, 3, F, H, W]`` in [0, 1], float32."""
        adapter = self.adapter
        pictures = adapter.decode(adapter.fold(latent).to(self.device))
        return adapter.unfold((pictures / 2 + 0.5).clamp(0, 1), latent.shape[0])

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> TextEmbedding:
        """Encode prompts as the stock pipeline does, each distinct one once."""
        if isinstance(prompts, str):
            prompts = [prompts]
        return self.adapter.encode_text(prompts)

    def velocity(
        self, noisy: Tensor, t: Tensor, text: TextEmbedding, guidance: float | None
    ) -> Tensor:
        """Run the transformer once; see :meth:`Adapter.velocity`."""
        return self.adapter.velocity(noisy, t, text, guidance)

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
            concept_blocks: blocks whose concept maps are averaged, as taps of the stream that the
                family reads them from (FLUX: ``double``); None means all of them.

        Returns:
            Maps in the backbone's dtype on its device. A clip gives an image backbone F = frames.
            Concept maps are in float32 and averaged over the timesteps.

        Raises:
            InputError: a size, tap, timestep, concept, or number of keys or prompts that does not
                fit.
        """
        # before any work that would be wasted
        reading = self._reading(taps, timesteps, concepts, concept_blocks)
        return self._read(self.encode(video), reading, prompt, keys, seed, chunk)

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

        Raises:
            InputError: a tap, timestep, concept, or number of keys or prompts that does not fit.
        """
        reading = self._reading(taps, timesteps, concepts, concept_blocks)
        return self._read(latent, reading, prompt, keys, seed, chunk, guidance)

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

        Args:
            prompt: what the sample is to show.
            taps, timesteps, concepts, concept_blocks: as for :meth:`extract`.
            negative_prompt: what guidance leads away from; None: an empty prompt.
            height, width, frames: size in pixels and frames; None means the defaults.
            steps: of sampling; None means the default.
            guidance: scale; None means the default.
            seed: of the noise that the run starts from.

        Raises:
            InputError: a size, tap, timestep or concept that does not fit, no steps, a guidance or
                seed out of range, a negative prompt for a family without that branch, or a schedule
                so short that two t share a step.
        """
        d = self.defaults
        reading = self._reading(taps, timesteps, concepts, concept_blocks)
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
            raise InputError(f"'{self.name}' makes single pictures: frames must be 1, not {frames}")
        guidance = d.guidance if guidance is None else guidance
        if not math.isfinite(guidance):
            raise InputError(f"guidance is {guidance}: it must be a finite number")
        text = self.encode_text([prompt])

        return sample(
            self.adapter,
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
                **self.adapter.call_arguments(text, negative_prompt, guidance, frames),
            },
            guidance=guidance,
            seed=seed,
        )

    def _reading(
        self,
        taps: Sequence[str | int] | None,
        timesteps: Sequence[float] | None,
        concepts: Sequence[str] | None,
        concept_blocks: Sequence[str | int] | None,
    ) -> Reading:
        return Reading.of(self.adapter, self.defaults, taps, timesteps, concepts, concept_blocks)

    @torch.no_grad()
    def _read(
        self,
        latent: Tensor,
        reading: Reading,
        prompt: str | Sequence[str] | None,
        keys: Sequence[str],
        seed: int,
        chunk: int | None,
        guidance: float | None = None,
    ) -> DiTFeatures:
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk must be at least 1, not {chunk}")
        x0 = latent.to(self.device, torch.float32)
        if not reading.blocks:
            return DiTFeatures({}, reading.timesteps, reading.timesteps, x0, self.untrained)
        text = self.encode_text(self._prompts(prompt, len(x0)))
        eps = self._noise(x0, keys, seed)
        if guidance is None:
            guidance = self.defaults.extract_guidance
        return read_latent(self.adapter, x0, eps, text, reading, guidance, chunk)

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
