"""FLUX.1 text-to-image: dev, schnell and nano."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmdiff_video.backbones.cards import BackboneCard, load_card
from mmdiff_video.backbones.concepts.joint import (
    ConceptAttention,
    JointBlock,
    JointWordAttention,
    without_pooled_text,
)
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS, ConceptReader
from mmdiff_video.backbones.family import (
    Components,
    Concepts,
    Config,
    EncodeText,
    Family,
    Picture,
    Stream,
    Text,
    TextPart,
    TransformerCall,
    halvings,
)
from mmdiff_video.backbones.latents import CELLS, PICTURES, SHIFT_AND_FACTOR, Latents
from mmdiff_video.backbones.types import LatentGeometry, TextEmbedding, first_words
from mmdiff_video.errors import InputError


def _geometry(transformer: Config, vae: Config) -> LatentGeometry:
    return LatentGeometry(
        # the transformer sees 2x2 latent cells packed into one token
        channels=transformer["in_channels"] // 4,
        time_stride=1,
        space_stride=halvings(vae),
        patch=2,
        is_video=False,
    )


def _encode(pipeline: Any, prompt: str, length: int, device: torch.device) -> TextEmbedding:
    tokens, pooled, _ = pipeline.encode_prompt(prompt, max_sequence_length=length, device=device)
    # the stock method pads without a mask; the tokenizer alone knows where the prompt ends
    ids = pipeline.tokenizer_2(prompt, truncation=True, max_length=length).input_ids
    count = torch.tensor([len(ids) - 1], device=tokens.device)
    return TextEmbedding({"tokens": tokens, "pooled": pooled}, first_words(count, tokens.shape[1]))


def _inputs(call: TransformerCall) -> dict[str, Any]:
    _, h, w = call.grid
    guidance = None
    if call.pipeline.transformer.config.guidance_embeds:
        if call.guidance is None:
            raise InputError("this FLUX is guidance-distilled: give a guidance value")
        guidance = torch.full(
            [len(call.hidden)], call.guidance, dtype=torch.float32, device=call.hidden.device
        )
    return {
        "guidance": guidance,
        "txt_ids": torch.zeros(call.text.tokens.shape[1], 3).to(call.hidden),
        "img_ids": positions(h // 2, w // 2).to(call.hidden),
    }


def positions(height: int, width: int) -> Tensor:
    """Rotary position of every token: [height * width, 3] of (0, row, column)."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).flatten(0, 1)


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


def _concept_reader(
    pipeline: Any,
    encode: EncodeText,
    concepts: Sequence[str],
    blocks: Sequence[int],
    text: TextEmbedding,
) -> ConceptReader:
    """Concept attention in the double-stream blocks, with the first T5 token of each concept."""
    transformer = pipeline.transformer
    double = [FluxJointBlock(block) for block in transformer.transformer_blocks]
    if PROMPT_WORDS in concepts:
        return JointWordAttention([double[i] for i in blocks], text.words)
    return ConceptAttention(
        transformer.time_text_embed,
        transformer.context_embedder,
        double[: max(blocks) + 1],
        blocks,
        tokens=encode(concepts).tokens[:, 0],
        modulation=without_pooled_text,
    )


def _tiny() -> BackboneCard:
    card = load_card("nano-flux")
    sizes = {
        "num_layers": 2,
        "num_single_layers": 3,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "axes_dims_rope": [8, 8, 8],
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
    }
    taps = ("double.1", "single.0", "single.1")
    return replace(
        card,
        transformer=card.transformer | sizes,
        vae=card.vae | {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4},
        defaults=replace(card.defaults, taps=taps, text_tokens=16, steps=12, height=32, width=48),
        build=card.build | {"text_layers": 1},
    )


# both kinds of block return (text, picture)
_PICTURE = Picture(item=1)

FAMILY = Family(
    name="FLUX",
    pipelines=("FluxPipeline",),
    card="flux",
    streams=(
        # text and picture apart
        Stream(name="double", blocks="transformer_blocks", depth="num_layers", picture=_PICTURE),
        # ... and joined
        Stream(
            name="single",
            blocks="single_transformer_blocks",
            depth="num_single_layers",
            picture=_PICTURE,
        ),
    ),
    default_stream="single",
    geometry=_geometry,
    latents=Latents(PICTURES, SHIFT_AND_FACTOR, CELLS),
    text=Text(
        encode=_encode,
        transformer={"tokens": "encoder_hidden_states", "pooled": "pooled_projections"},
        pipeline={"tokens": "prompt_embeds", "pooled": "pooled_prompt_embeds"},
        # distilled to one branch
        negative={},
    ),
    inputs=_inputs,
    concepts=Concepts(stream="double", reader=_concept_reader),
    components=Components(
        transformer="FluxTransformer2DModel",
        vae="AutoencoderKL",
        scheduler="FlowMatchEulerDiscreteScheduler",
        text_encoders={
            "text_encoder": TextPart(
                kind="clip", width=lambda card: card.transformer["pooled_projection_dim"]
            ),
            "text_encoder_2": TextPart(
                kind="t5", width=lambda card: card.transformer["joint_attention_dim"]
            ),
        },
    ),
    tiny=_tiny,
)
