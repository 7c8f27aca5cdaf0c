"""FLUX.1 text-to-image (diffusers' FluxPipeline): dev, schnell and nano."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.concepts.joint import (
    ConceptAttention,
    ConceptStep,
    JointBlock,
    JointWordAttention,
)
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS, ConceptReader
from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.backbones.types import LatentGeometry, Layout, TextEmbedding
from mmdiff_video.errors import InputError


class FluxBackbone(Backbone):
    """FLUX: double-stream blocks (text and picture apart), then single-stream blocks (joined)."""

    family = "flux"
    concept_stream = "double"

    @classmethod
    def layout(cls, transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> Layout:
        """Read blocks and geometry off the two diffusers configs."""
        width = transformer["num_attention_heads"] * transformer["attention_head_dim"]
        depths = {"double": "num_layers", "single": "num_single_layers"}
        return Layout(
            geometry=LatentGeometry(
                # the transformer sees 2x2 latent cells packed into one token
                channels=transformer["in_channels"] // 4,
                time_stride=1,
                space_stride=2 ** (len(vae["block_out_channels"]) - 1),
                patch=2,
                is_video=False,
            ),
            taps=tuple(
                TapSpec(f"{stream}.{i}", stream, i, width)
                for stream, depth in depths.items()
                for i in range(transformer[depth])
            ),
            default_stream="single",
        )

    def _blocks(self) -> Mapping[str, nn.ModuleList]:
        transformer = self.pipeline.transformer
        return {
            "double": transformer.transformer_blocks,
            "single": transformer.single_transformer_blocks,
        }

    def picture_tokens(self, block_output: Any) -> Tensor:
        """Pick the picture tokens out of (text, picture), which both kinds of block return."""
        _, picture = block_output
        return picture

    def _vae_encode(self, pictures: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latent = vae.encode(pictures[:, :, 0]).latent_dist.mode()
        return ((latent - vae.config.shift_factor) * vae.config.scaling_factor)[:, :, None]

    def _vae_decode(self, latent: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latent = latent[:, :, 0] / vae.config.scaling_factor + vae.config.shift_factor
        return vae.decode(latent).sample[:, :, None]

    def _encode_prompt(self, prompt: str) -> TextEmbedding:
        tokens, pooled, _ = self.pipeline.encode_prompt(
            prompt, max_sequence_length=self.defaults.text_tokens, device=self.device
        )
        # the stock method pads without a mask; the tokenizer alone knows where the prompt ends
        ids = self.pipeline.tokenizer_2(
            prompt, truncation=True, max_length=self.defaults.text_tokens
        ).input_ids
        words = torch.tensor([max(len(ids) - 1, 1)], device=tokens.device)
        return TextEmbedding(tokens, words, pooled)

    def velocity(
        self, noisy: Tensor, t: Tensor, text: TextEmbedding, guidance: float | None
    ) -> Tensor:
        """Run the transformer once; see :meth:`Backbone.velocity`."""
        n, _, _, h, w = noisy.shape
        place = {"device": noisy.device, "dtype": self.dtype}
        velocity = self.pipeline.transformer(
            hidden_states=pack(noisy[:, :, 0]).to(self.dtype),
            timestep=t,
            guidance=self._guidance(guidance, n, noisy.device),
            pooled_projections=text.pooled,
            encoder_hidden_states=text.tokens,
            txt_ids=torch.zeros(text.tokens.shape[1], 3, **place),
            img_ids=positions(h // 2, w // 2).to(**place),
            return_dict=False,
        )[0]
        return unpack(velocity, h, w)[:, :, None]

    def concept_reader(
        self, concepts: Sequence[str], blocks: Sequence[int], text: TextEmbedding
    ) -> ConceptReader:
        """Concept attention in the double-stream blocks; see :meth:`Backbone.concept_reader`."""
        transformer = self.pipeline.transformer
        double = [FluxJointBlock(block) for block in transformer.transformer_blocks]
        if PROMPT_WORDS in concepts:
            return JointWordAttention([double[i] for i in blocks], text.words)
        return ConceptAttention(
            transformer.time_text_embed,
            transformer.context_embedder,
            double[: max(blocks) + 1],
            blocks,
            tokens=self.encode_text(concepts).tokens[:, 0],  # the first T5 token of each
        )

    def _guidance(self, value: float | None, rows: int, device: torch.device) -> Tensor | None:
        if not self.pipeline.transformer.config.guidance_embeds:
            return None
        if value is None:
            raise InputError(f"'{self.name}' is guidance-distilled: give a guidance value")
        return torch.full([rows], value, dtype=torch.float32, device=device)

    def _call_arguments(
        self, text: TextEmbedding, negative_prompt: str | None, guidance: float, frames: int
    ) -> dict[str, Any]:
        if negative_prompt:
            raise InputError("FLUX is distilled to one branch and takes no negative prompt")
        return {
            "prompt_embeds": text.tokens,
            "pooled_prompt_embeds": text.pooled,
            "guidance_scale": guidance,
        }

    def sampled_latent(self, latents: Tensor, height: int, width: int) -> Tensor:
        """See :meth:`Backbone.sampled_latent`."""
        stride = self.geometry.space_stride
        return unpack(latents, height // stride, width // stride)[:, :, None]

    def sampled_video(self, output: Any) -> Tensor:
        """See :meth:`Backbone.sampled_video`."""
        return output.images[:, :, None]


class FluxJointBlock(JointBlock):
    """A double-stream block. At position 0, the concepts', the rotary embedding does nothing."""

    def picture_heads(self, normed: Tensor, call: dict[str, Any]) -> Tensor:
        """[N, L, heads, d] -> [N, heads, L, d] with rotary positions."""
        from diffusers.models.embeddings import apply_rotary_emb

        cos, sin = (table[-normed.shape[1] :] for table in call["image_rotary_emb"])
        rotate: Any = apply_rotary_emb  # its annotations are wrong
        return rotate(normed, (cos, sin), sequence_dim=1).transpose(1, 2)

    def text_heads(self, normed: Tensor) -> Tensor:
        """[N, L, heads, d] -> [N, heads, L, d]."""
        return normed.transpose(1, 2)

    def split_heads(self, tokens: Tensor) -> Tensor:
        """[N, L, heads * d] -> [N, heads, L, d]."""
        return tokens.unflatten(2, (-1, self.attention.head_dim)).transpose(1, 2)

    def project(self, concepts: Tensor, conditioning: Tensor) -> ConceptStep:
        """Normalise and project concepts with the text weights."""
        normed, *modulation = self.block.norm1_context(concepts, emb=conditioning)
        attention = self.attention
        return ConceptStep(
            queries=attention.norm_added_q(self.split_heads(attention.add_q_proj(normed))),
            keys=attention.norm_added_k(self.split_heads(attention.add_k_proj(normed))),
            values=self.split_heads(attention.add_v_proj(normed)),
            modulation=modulation,
        )

    def update(self, concepts: Tensor, outputs: Tensor, modulation: Any) -> Tensor:
        """Finish the block with the text weights: output projection, then the MLP."""
        gate, mlp_shift, mlp_scale, mlp_gate = (m[:, None] for m in modulation)
        concepts = concepts + gate * self.attention.to_add_out(outputs)
        normed = self.block.norm2_context(concepts) * (1 + mlp_scale) + mlp_shift
        return concepts + mlp_gate * self.block.ff_context(normed)


def pack(latent: Tensor) -> Tensor:
    """[N, c, h, w] -> tokens [N, h/2 * w/2, 4c] of 2x2 cells, channel-major."""
    n, c, h, w = latent.shape
    cells = latent.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(n, h // 2 * (w // 2), 4 * c)


def unpack(tokens: Tensor, h: int, w: int) -> Tensor:
    """Inverse of :func:`_pack`."""
    cells = tokens.reshape(len(tokens), h // 2, w // 2, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(len(tokens), -1, h, w)


def positions(height: int, width: int) -> Tensor:
    """Rotary position of every token: [height * width, 3] of (0, row, column)."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).flatten(0, 1)
