"""The components of the nano pipelines at the sizes of a card, with the weights their classes draw.

Whoever builds a nano backbone starts here: ``nano.py`` fills the weights with reproducible noise,
pretraining trains them.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.backbones.nano.text import clip_tokenizer, unigram_tokenizer


def new_vae(card: BackboneCard) -> Any:
    """Build the autoencoder."""
    return _vae_class(card.pipeline)(**card.vae)


def load_vae(folder: Path, pipeline: str) -> Any:
    """Open an autoencoder's folder, in float32."""
    return _vae_class(pipeline).from_pretrained(folder, torch_dtype=torch.float32)


def _vae_class(pipeline: str) -> Any:
    from diffusers import AutoencoderKL, AutoencoderKLWan

    return {"WanPipeline": AutoencoderKLWan, "FluxPipeline": AutoencoderKL}[pipeline]


def new_transformer(card: BackboneCard) -> Any:
    """Build the DiT."""
    from diffusers import FluxTransformer2DModel, WanTransformer3DModel

    return {"WanPipeline": WanTransformer3DModel, "FluxPipeline": FluxTransformer2DModel}[
        card.pipeline
    ](**card.transformer)


def new_scheduler(card: BackboneCard) -> Any:
    """Build the scheduler that the family ships."""
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    return {
        "WanPipeline": UniPCMultistepScheduler,
        "FluxPipeline": FlowMatchEulerDiscreteScheduler,
    }[card.pipeline](**card.build["scheduler"])


def new_tokenizers(card: BackboneCard) -> dict[str, Any]:
    """Build the tokenizers, under their names in the pipeline."""
    if card.pipeline == "WanPipeline":
        return {"tokenizer": unigram_tokenizer()}
    with tempfile.TemporaryDirectory() as scratch:
        clip = clip_tokenizer(Path(scratch))
    return {"tokenizer": clip, "tokenizer_2": unigram_tokenizer()}


def new_text_encoders(card: BackboneCard, tokenizers: dict[str, Any]) -> dict[str, Any]:
    """Build the text encoders for these tokenizers, under their names in the pipeline."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        T5Config,
        T5EncoderModel,
        UMT5Config,
        UMT5EncoderModel,
    )

    if card.pipeline == "WanPipeline":
        sizes = _t5_sizes(card, len(tokenizers["tokenizer"]), card.transformer["text_dim"])
        return {"text_encoder": UMT5EncoderModel(UMT5Config(**sizes))}
    tokenizer = tokenizers["tokenizer"]
    pooled = card.transformer["pooled_projection_dim"]
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=pooled,
        intermediate_size=2 * pooled,
        num_hidden_layers=card.build["text_layers"],
        num_attention_heads=max(1, pooled // 64),
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    sizes = _t5_sizes(card, len(tokenizers["tokenizer_2"]), card.transformer["joint_attention_dim"])
    return {
        "text_encoder": CLIPTextModel(clip),
        "text_encoder_2": T5EncoderModel(T5Config(**sizes)),
    }


def make_pipeline(card: BackboneCard, **components: Any) -> Any:
    """Put components together to the diffusers pipeline of the card; the scheduler is added."""
    import diffusers

    return getattr(diffusers, card.pipeline)(scheduler=new_scheduler(card), **components)


def _t5_sizes(card: BackboneCard, vocabulary: int, width: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": 64,
        "d_ff": 2 * width,
        "num_layers": card.build["text_layers"],
        "num_heads": max(1, width // 64),
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,  # trained on endless procedural captions, or not at all
    }
