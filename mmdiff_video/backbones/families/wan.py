"""Wan 2.1 text-to-video: 1.3B, 14B and nano."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mmdiff_video.backbones.cards import BackboneCard, load_card
from mmdiff_video.backbones.concepts.cross import CrossAttentionConcepts, CrossWordAttention
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
    sampled_video,
    thousandths,
)
from mmdiff_video.backbones.latents import CLIPS, STATISTICS, WHOLE, Latents
from mmdiff_video.backbones.types import LatentGeometry, TextEmbedding, first_words


def _geometry(transformer: Config, vae: Config) -> LatentGeometry:
    return LatentGeometry(
        channels=transformer["in_channels"],
        time_stride=vae.get("scale_factor_temporal", 4),
        space_stride=vae.get("scale_factor_spatial", 8),
        patch=transformer["patch_size"][-1],
        is_video=True,
    )


def _encode(pipeline: Any, prompt: str, length: int, device: torch.device) -> TextEmbedding:
    tokens, _ = pipeline.encode_prompt(
        prompt, do_classifier_free_guidance=False, max_sequence_length=length, device=device
    )
    # the stock method zeroes what lies behind the prompt and its end token
    written = (tokens != 0).any(dim=2).sum(dim=1)
    return TextEmbedding({"tokens": tokens}, first_words(written - 1, tokens.shape[1]))


def _concept_reader(
    pipeline: Any,
    encode: EncodeText,
    concepts: Sequence[str],
    blocks: Sequence[int],
    text: TextEmbedding,
) -> ConceptReader:
    """Cross-attention maps: the text has no attention output of its own."""
    transformer = pipeline.transformer
    attentions = [transformer.blocks[i].attn2 for i in blocks]
    if PROMPT_WORDS in concepts:
        return CrossWordAttention(attentions, text.words)
    encoded = encode(concepts)
    return CrossAttentionConcepts(
        attentions,
        transformer.condition_embedder.text_embedder,
        [tokens[words] for tokens, words in zip(encoded.tokens, encoded.words, strict=True)],
    )


def _tiny() -> BackboneCard:
    card = load_card("nano-wan")
    sizes = {
        "num_layers": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "text_dim": 32,
        "ffn_dim": 64,
        "freq_dim": 32,
    }
    taps = ("block.0", "block.2")
    return replace(
        card,
        transformer=card.transformer | sizes,
        vae=card.vae | {"base_dim": 4, "decoder_base_dim": 8},
        defaults=replace(
            card.defaults, taps=taps, text_tokens=16, steps=12, height=32, width=48, frames=5
        ),
        build=card.build | {"text_layers": 1},
    )


FAMILY = Family(
    name="Wan",
    pipelines=("WanPipeline",),
    card="wan",
    # one stream over picture tokens; text enters by cross-attention
    streams=(Stream(name="block", blocks="blocks", depth="num_layers", picture=Picture()),),
    default_stream="block",
    geometry=_geometry,
    latents=Latents(CLIPS, STATISTICS, WHOLE),
    text=Text(
        encode=_encode,
        transformer={"tokens": "encoder_hidden_states"},
        pipeline={"tokens": "prompt_embeds"},
        negative={"tokens": "negative_prompt_embeds"},
    ),
    timestep=thousandths,
    sampled=sampled_video,
    concepts=Concepts(stream="block", reader=_concept_reader),
    # its decoder loses detail in bf16
    cuda_dtypes={"vae": torch.float32},
    components=Components(
        transformer="WanTransformer3DModel",
        vae="AutoencoderKLWan",
        scheduler="UniPCMultistepScheduler",
        text_encoders={
            "text_encoder": TextPart(kind="umt5", width=lambda card: card.transformer["text_dim"])
        },
    ),
    tiny=_tiny,
)
