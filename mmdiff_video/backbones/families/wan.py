"""Wan 2.1 text-to-video (diffusers' WanPipeline): 1.3B, 14B and nano."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.concepts.cross import CrossAttentionConcepts, CrossWordAttention
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS, ConceptReader
from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.backbones.noise import predicts_sample, velocity_to
from mmdiff_video.backbones.types import LatentGeometry, Layout, TextEmbedding


class WanBackbone(Backbone):
    """Wan: one stream of blocks over picture tokens; text enters by cross-attention."""

    family = "wan"
    concept_stream = "block"
    # Its decoder loses detail in bf16.
    cuda_dtypes: ClassVar = {"vae": torch.float32}

    @classmethod
    def layout(cls, transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> Layout:
        """Read blocks and geometry off the two diffusers configs."""
        width = transformer["num_attention_heads"] * transformer["attention_head_dim"]
        return Layout(
            geometry=LatentGeometry(
                channels=transformer["in_channels"],
                time_stride=vae.get("scale_factor_temporal", 4),
                space_stride=vae.get("scale_factor_spatial", 8),
                patch=transformer["patch_size"][-1],
                is_video=True,
            ),
            taps=tuple(
                TapSpec(f"block.{i}", "block", i, width) for i in range(transformer["num_layers"])
            ),
            default_stream="block",
        )

    def _blocks(self) -> Mapping[str, nn.ModuleList]:
        return {"block": self.pipeline.transformer.blocks}

    def picture_tokens(self, block_output: Any) -> Tensor:
        """Pick the picture tokens, which are the whole output."""
        return block_output

    def _vae_encode(self, pictures: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latent = _paired(lambda x: vae.encode(x).latent_dist.mode(), pictures)
        mean, std = self._statistics(latent)
        return (latent - mean) / std

    def _vae_decode(self, latent: Tensor) -> Tensor:
        mean, std = self._statistics(latent)
        return _paired(lambda z: self.pipeline.vae.decode(z).sample, latent * std + mean)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.pipeline.vae.config
        mean, std = (
            torch.tensor(values).to(like).reshape(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, std

    def _encode_prompt(self, prompt: str) -> TextEmbedding:
        tokens, _ = self.pipeline.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            max_sequence_length=self.defaults.text_tokens,
            device=self.device,
        )
        # the stock method zeroes what lies behind the prompt
        written = (tokens != 0).any(dim=2).sum(dim=1)
        return TextEmbedding(tokens.to(self.dtype), words=(written - 1).clamp_min(1))

    def velocity(
        self, noisy: Tensor, t: Tensor, text: TextEmbedding, guidance: float | None
    ) -> Tensor:
        """Run the transformer once; see :meth:`Backbone.velocity`."""
        predicted = self.pipeline.transformer(
            hidden_states=noisy.to(self.dtype),
            timestep=t * 1000,
            encoder_hidden_states=text.tokens,
            return_dict=False,
        )[0]
        if predicts_sample(self.pipeline.scheduler):
            return velocity_to(predicted, noisy, t).to(predicted.dtype)
        return predicted

    def concept_reader(
        self, concepts: Sequence[str], blocks: Sequence[int], text: TextEmbedding
    ) -> ConceptReader:
        """Cross-attention maps of the concepts; see :meth:`Backbone.concept_reader`."""
        transformer = self.pipeline.transformer
        attentions = [transformer.blocks[i].attn2 for i in blocks]
        if PROMPT_WORDS in concepts:
            return CrossWordAttention(attentions, text.words)
        encoded = self.encode_text(concepts)
        return CrossAttentionConcepts(
            attentions,
            transformer.condition_embedder.text_embedder,
            [
                tokens[:count]
                for tokens, count in zip(encoded.tokens, encoded.words.tolist(), strict=True)
            ],
        )

    def _call_arguments(
        self, text: TextEmbedding, negative_prompt: str | None, guidance: float, frames: int
    ) -> dict[str, Any]:
        arguments = {
            "prompt_embeds": text.tokens,
            "guidance_scale": guidance,
            "num_frames": frames,
        }
        if guidance > 1:
            arguments["negative_prompt_embeds"] = self.encode_text([negative_prompt or ""]).tokens
        return arguments

    def sampled_latent(self, latents: Tensor, height: int, width: int) -> Tensor:
        """See :meth:`Backbone.sampled_latent`."""
        return latents

    def sampled_video(self, output: Any) -> Tensor:
        """See :meth:`Backbone.sampled_video`."""
        return output.frames.transpose(1, 2)


def _paired(run: Any, batch: Tensor) -> Tensor:
    """Run a 3D convolution network on at least two samples on a CPU.

    PyTorch gives a lone sample with few channels to a naive kernel; with a twin it takes oneDNN and
    is nearly twice as fast, twin included.
    """
    if batch.device.type == "cpu" and batch.shape[0] == 1:
        return run(batch.expand(2, *batch.shape[1:]))[:1]
    return run(batch)
