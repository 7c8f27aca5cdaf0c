"""The components of the nano pipelines at the sizes of a card, as their classes initialise them.

Whoever builds a nano backbone starts here: ``build.py`` fills the weights with reproducible noise,
pretraining trains them. Which classes they are is said by the family.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.backbones.families import family_of
from mmdiff_video.backbones.family import Components
from mmdiff_video.backbones.models import load_model
from mmdiff_video.backbones.nano.text import clip_tokenizer, unigram_tokenizer


def new_vae(card: BackboneCard) -> Any:
    """Build the autoencoder."""
    return _diffusers(_components(card.pipeline).vae)(**card.vae)


def load_vae(folder: Path, pipeline: str) -> Any:
    """Open the folder of an autoencoder of a pipeline class, in float32.

    Raises:
        InputError: as :func:`mmdiff_video.backbones.models.load_model`.
    """
    return load_model(_diffusers(_components(pipeline).vae), folder, torch.float32)


def new_transformer(card: BackboneCard) -> Any:
    """Build the DiT."""
    return _diffusers(_components(card.pipeline).transformer)(**card.transformer)


def new_scheduler(card: BackboneCard) -> Any:
    """Build the scheduler that the family ships."""
    return _diffusers(_components(card.pipeline).scheduler)(**card.build["scheduler"])


def new_tokenizers(card: BackboneCard) -> dict[str, Any]:
    """Build the tokenizers, under their names in the pipeline."""
    components = _components(card.pipeline)
    return {
        name: _KINDS[components.text_encoders[encoder].kind].tokenizer()
        for name, encoder in components.tokenizers.items()
    }


def new_text_encoders(card: BackboneCard, tokenizers: dict[str, Any]) -> dict[str, Any]:
    """Build the text encoders for these tokenizers, under their names in the pipeline."""
    components = _components(card.pipeline)
    return {
        encoder: _KINDS[part.kind].encoder(
            tokenizers[name], part.width(card), card.build["text_layers"]
        )
        for name, encoder in components.tokenizers.items()
        for part in [components.text_encoders[encoder]]
    }


def make_pipeline(card: BackboneCard, **components: Any) -> Any:
    """Put components together to the diffusers pipeline of the card; the scheduler is added."""
    return _diffusers(card.pipeline)(scheduler=new_scheduler(card), **components)


def _components(pipeline: str) -> Components:
    return family_of(pipeline, "the card").components


def _diffusers(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)


@dataclass(frozen=True)
class _Kind:
    """A kind of text encoder: its tokenizer, and (tokenizer, width, layers) -> the encoder."""

    tokenizer: Callable[[], Any]
    encoder: Callable[[Any, int, int], Any]


def _new_clip_tokenizer() -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        return clip_tokenizer(Path(scratch))


def _clip(tokenizer: Any, width: int, layers: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**_clip_sizes(tokenizer, width, layers)))


def _projected_clip(tokenizer: Any, width: int, layers: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sizes = _clip_sizes(tokenizer, width, layers)
    return CLIPTextModelWithProjection(CLIPTextConfig(**sizes, projection_dim=width))


def _t5(tokenizer: Any, width: int, layers: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**_t5_sizes(tokenizer, width, layers)))


def _umt5(tokenizer: Any, width: int, layers: int) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(**_t5_sizes(tokenizer, width, layers)))


def _clip_sizes(tokenizer: Any, width: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _t5_sizes(tokenizer: Any, width: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "d_model": width,
        "d_kv": 64,
        "d_ff": 2 * width,
        "num_layers": layers,
        "num_heads": max(1, width // 64),
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,  # trained on endless procedural captions, or not at all
    }


_KINDS = {
    "clip": _Kind(_new_clip_tokenizer, _clip),
    "projected_clip": _Kind(_new_clip_tokenizer, _projected_clip),
    "t5": _Kind(unigram_tokenizer, _t5),
    "umt5": _Kind(unigram_tokenizer, _umt5),
}
