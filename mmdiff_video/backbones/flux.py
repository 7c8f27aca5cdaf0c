"""FLUX.1 text-to-image (diffusers' FluxPipeline): dev, schnell and nano."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.types import LatentGeometry, Layout, TextEmbedding
from mmdiff_video.errors import InputError
from mmdiff_video.features.types import TapSpec


class FluxBackbone(Backbone):
    """FLUX: double-stream blocks (text and picture apart), then single-stream blocks (joined)."""

    family = "flux"

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
        return TextEmbedding(tokens, pooled)

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

    def _sampled_latent(self, latents: Tensor, height: int, width: int) -> Tensor:
        stride = self.geometry.space_stride
        return unpack(latents, height // stride, width // stride)[:, :, None]

    def _sampled_video(self, output: Any) -> Tensor:
        return output.images[:, :, None]


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
