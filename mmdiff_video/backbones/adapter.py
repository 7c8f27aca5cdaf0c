"""A loaded pipeline, used as its family says."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.concepts.reader import ConceptReader
from mmdiff_video.backbones.family import Family, TransformerCall
from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.backbones.loaded_state import LoadedState
from mmdiff_video.backbones.text_cache import TextCache
from mmdiff_video.backbones.types import TextEmbedding
from mmdiff_video.errors import InputError


class Adapter:
    """Translates between our shapes and units and a frozen pipeline's, as its family says.

    Args:
        pipeline: the stock diffusers pipeline; its modules are frozen and set to eval mode.
        family: the row of the table that describes it.
        text_tokens: length that prompts are padded to.
        untrained: whether its weights are random.
        device, dtype: where and in what the transformer computes.

    Attributes:
        layout, geometry: see :class:`Layout`, :class:`LatentGeometry`.
        loaded: see :class:`LoadedState`.
        chunk_limits: token grid (F, H, W) -> most rows of one forward, where more once ran out of
            memory.
    """

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        *,
        text_tokens: int,
        untrained: bool,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.pipeline = pipeline
        self.family = family
        self.text_tokens = text_tokens
        self.untrained = untrained
        self.device = device
        self.dtype = dtype
        self.layout = family.layout(pipeline.transformer.config, pipeline.vae.config)
        self.geometry = self.layout.geometry
        self.chunk_limits: dict[tuple[int, ...], int] = {}
        pipeline.set_progress_bar_config(disable=True)
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval().requires_grad_(False)
        self.loaded = LoadedState(pipeline)
        parts = family.components
        self._texts = TextCache(
            self._encode_prompt,
            lambda: self.loaded.digest({*parts.text_encoders, *parts.tokenizers}),
        )

    def modules(self, specs: Sequence[TapSpec]) -> dict[str, nn.Module]:
        """Look up the blocks of the transformer that taps name: tap name -> module."""
        blocks = self.family.blocks(self.pipeline.transformer)
        return {spec.name: blocks[spec.stream][spec.index] for spec in specs}

    def picture_tokens(self, spec: TapSpec, output: Any, count: int) -> Tensor:
        """Pick the ``count`` picture tokens [N, count, C] out of what a block put out."""
        return self.family.stream(spec.stream).picture.tokens(output, count)

    def encode(self, pictures: Tensor) -> Tensor:
        """Rows of :meth:`fold` in [-1, 1] -> normalised latents, float32."""
        vae = self.pipeline.vae
        return self.family.latents.encode(vae, pictures.to(vae.dtype)).float()

    def decode(self, latent: Tensor) -> Tensor:
        """Inverse of :meth:`encode`, to about [-1, 1]."""
        vae = self.pipeline.vae
        return self.family.latents.decode(vae, latent.to(vae.dtype)).float()

    def encode_text(self, prompts: Sequence[str]) -> TextEmbedding:
        """Encode prompts as the stock pipeline does, each distinct one once."""
        return self._texts(prompts)

    def _encode_prompt(self, prompt: str) -> TextEmbedding:
        encode = self.family.text.encode
        return encode(self.pipeline, prompt, self.text_tokens, self.device).to(self.dtype)

    def velocity(
        self, noisy: Tensor, t: Tensor, text: TextEmbedding, guidance: float | None
    ) -> Tensor:
        """Run the transformer once on N rows and return the velocity that it predicts.

        Args:
            noisy: [N, c, F, h, w] float32 (image model: F = 1).
            t: [N] float32.
            text: N rows.
            guidance: value embedded in a guidance-distilled model; others ignore it.
        """
        family, packing = self.family, self.family.latents.packing
        frames, h, w = noisy.shape[2:]
        call = TransformerCall(
            pipeline=self.pipeline,
            hidden=packing.pack(noisy).to(self.dtype),
            grid=(frames, h, w),
            text=text,
            guidance=guidance,
        )
        predicted = self.pipeline.transformer(
            hidden_states=call.hidden,
            timestep=family.timestep(t),
            **self.text_arguments(text),
            **family.inputs(call),
            return_dict=False,
        )[0]
        predicted = packing.unpack(predicted, call.grid)
        return family.velocity(predicted, noisy, t, self.pipeline.scheduler)

    def text_arguments(self, text: TextEmbedding) -> dict[str, Tensor]:
        """Name the text's tensors as the keywords of the transformer's call."""
        return {key: text.tensors[name] for name, key in self.family.text.transformer.items()}

    def concept_reader(
        self, concepts: Sequence[str], blocks: Sequence[int], text: TextEmbedding
    ) -> ConceptReader:
        """Make what reads concept maps during forwards; the family must have a reader.

        Args:
            concepts: as :class:`Reading` has them; not empty.
            blocks: indices in the stream that concepts are read from, ascending.
            text: the text of the forwards, one row or as many as theirs.
        """
        assert self.family.concepts is not None
        return self.family.concepts.reader(self.pipeline, self.encode_text, concepts, blocks, text)

    def call_arguments(
        self, text: TextEmbedding, negative_prompt: str | None, guidance: float, frames: int
    ) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call that families name differently.

        Args:
            text: of the prompt, one row.
            negative_prompt: None for an empty one.
            guidance: scale; up to 1 the negative branch does not run.
            frames: of the clip; image models are not told.

        Raises:
            InputError: a negative prompt for a family without that branch.
        """
        family, names = self.family, self.family.text
        if negative_prompt and not names.negative:
            raise InputError(f"{family.name} has one branch only and takes no negative prompt")
        arguments = {key: text.tensors[name] for name, key in names.pipeline.items()}
        if guidance > 1 and names.negative:
            negative = self.encode_text([negative_prompt or ""])
            arguments |= {key: negative.tensors[name] for name, key in names.negative.items()}
        length = {"num_frames": frames} if self.geometry.is_video else {}
        return {**arguments, **length, family.guidance: guidance, **family.call}

    def sampled_latent(self, latents: Tensor, frames: int, height: int, width: int) -> Tensor:
        """Turn the pipeline's own latents into [1, c, F, h, w], for a size in pixels."""
        grid = self.geometry.latent_grid(frames, height, width)
        return self.family.latents.packing.unpack(latents, grid)

    def fold(self, video: Tensor) -> Tensor:
        """[B, C, F, H, W] -> for an image model [B*F, C, 1, H, W]."""
        if self.geometry.is_video:
            return video
        return video.transpose(1, 2).flatten(0, 1)[:, :, None]

    def unfold(self, rows: Tensor, batch: int) -> Tensor:
        """Inverse of :meth:`fold` for a batch of ``batch``."""
        if self.geometry.is_video:
            return rows
        return rows[:, :, 0].unflatten(0, (batch, -1)).transpose(1, 2).contiguous()
