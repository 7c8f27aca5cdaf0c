"""Build the nano backbones: every component of the big pipelines at a size for two CPU cores.

The weights are random from a fixed seed. A folder made here has the files of a big model's and is
loaded by the same code.
"""

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.bars import bars_on_terminals_only
from mmdiff_video.backbones.cards import FOLDER_CARD, BackboneCard, load_card
from mmdiff_video.backbones.nano_text import clip_tokenizer, unigram_tokenizer
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.files import write_folder_aside
from mmdiff_video.resources import cache_dir

logger = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)

_SEED = 0
# Part of the cache key: raise it when the code below builds something else from the same card.
_RECIPE = 1


def build_cached(name: str) -> Path:
    """Return the folder of a built-in backbone, building it on first use.

    Several processes may do so at once: each builds aside, the first rename wins, and all the
    others find the same bytes there.
    """
    card = load_card(name)
    recipe = json.dumps([_RECIPE, _SEED, dataclasses.asdict(card)], sort_keys=True)
    key = hashlib.blake2b(recipe.encode(), digest_size=6).hexdigest()
    folder = cache_dir() / "backbones" / f"{name}-{key}"
    if not folder.is_dir():
        try:
            with write_folder_aside(folder) as aside:
                parameters = build(card, aside)
        except OSError:
            if not folder.is_dir():  # anything but having lost the race
                raise
        else:
            counts = ", ".join(f"{part} {n / 1e6:.2f} M" for part, n in parameters.items())
            logger.info("built %s with random weights in %s: %s", name, folder, counts)
    return folder


def build(card: BackboneCard, folder: Path) -> dict[str, int]:
    """Write a diffusers folder with random weights in bfloat16.

    Args:
        card: sizes; see ``configs/backbones/nano-*.yaml``.
        folder: where to; created if absent.

    Returns:
        Parameter count per component.
    """
    pipeline = _BUILDERS[card.pipeline](card)
    modules = {k: m for k, m in pipeline.components.items() if isinstance(m, nn.Module)}
    for module in modules.values():
        # diffusers' own to() warns of modules kept in float32; the loader widens those again
        nn.Module.to(module, torch.bfloat16)
    with bars_on_terminals_only():
        pipeline.save_pretrained(folder)
    note = {"untrained": True, "defaults": dataclasses.asdict(card.defaults)}
    (folder / FOLDER_CARD).write_text(json.dumps(note, indent=2) + "\n")
    return {name: sum(p.numel() for p in m.parameters()) for name, m in modules.items()}


def _wan(card: BackboneCard) -> Any:
    from diffusers import (
        AutoencoderKLWan,
        UniPCMultistepScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = unigram_tokenizer()
    text = UMT5EncoderModel(UMT5Config(**_t5_sizes(card, len(tokenizer), "text_dim")))
    vae = AutoencoderKLWan(**card.vae)
    mean, std = _latent_statistics(_initialised(vae), frames=5)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=_initialised(text),
        vae=vae,
        # what Wan ships; the annotation of the pipeline is narrower than its code
        scheduler=cast(Any, UniPCMultistepScheduler(**card.build["scheduler"])),
        transformer=_initialised(WanTransformer3DModel(**card.transformer)),
    )


def _flux(card: BackboneCard) -> Any:
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    tokenizer_2 = unigram_tokenizer()
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = clip_tokenizer(Path(scratch))
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
    t5 = T5Config(**_t5_sizes(card, len(tokenizer_2), "joint_attention_dim"))
    vae = AutoencoderKL(**card.vae)
    _scale_latents(_initialised(vae))
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**card.build["scheduler"]),
        vae=vae,
        text_encoder=_initialised(CLIPTextModel(clip)),
        tokenizer=tokenizer,
        text_encoder_2=_initialised(T5EncoderModel(t5)),
        tokenizer_2=tokenizer_2,
        transformer=_initialised(FluxTransformer2DModel(**card.transformer)),
    )


_BUILDERS: dict[str, Callable[[BackboneCard], Any]] = {"WanPipeline": _wan, "FluxPipeline": _flux}


def _t5_sizes(card: BackboneCard, vocabulary: int, width_key: str) -> dict[str, Any]:
    width = card.transformer[width_key]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": 64,
        "d_ff": 2 * width,
        "num_layers": card.build["text_layers"],
        "num_heads": max(1, width // 64),
        "feed_forward_proj": "gated-gelu",
    }


def _initialised(module: Module) -> Module:
    """Draw the weights from their names alone, so that no library version or build order matters.

    Normal with variance 1 / fan-in: the signal keeps its size through the depth, and the
    modulations (scale, shift, gate) are large enough for features to vary with text and t.
    Everything is rounded to bfloat16, in which it will be saved.
    """
    module.eval().requires_grad_(False)
    for name, p in module.named_parameters():
        if name.endswith("bias") and p.ndim == 1:
            value = torch.zeros(p.shape)
        elif p.ndim == 1 or name.endswith("gamma"):  # gains of norms
            value = torch.ones(p.shape)
        else:
            value = keyed_noise([name], _SEED, p.shape)[0]
            if "embed_tokens" not in name and "token_embedding" not in name:
                value *= (p[0].numel()) ** -0.5
        p.copy_(value.to(torch.bfloat16))
    return module


def _latent_statistics(vae: Any, frames: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [c] of the latents of synthetic pictures.

    Args:
        vae: a diffusers autoencoder.
        frames: clip length for a video VAE; None for an image VAE.
    """
    pictures = _pictures(16, 96)
    if frames is not None:  # slide over each picture
        pictures = torch.stack([pictures.roll(4 * f, dims=-1) for f in range(frames)], dim=2)
    latent = vae.encode(pictures * 2 - 1).latent_dist.mode()
    per_channel = latent.transpose(0, 1).flatten(1)
    return per_channel.mean(1), per_channel.std(1)


def _scale_latents(vae: Any) -> None:
    """Fold into the encoder's last layer what gives every channel the config's shift and scale."""
    mean, std = _latent_statistics(vae)
    gain = 1 / (vae.config.scaling_factor * std)
    convolution = vae.encoder.conv_out
    channels = len(mean)  # the other half of the outputs are the posterior's log-variances
    convolution.weight[:channels] *= gain.reshape(-1, 1, 1, 1)
    convolution.bias[:channels] = (convolution.bias[:channels] - mean) * gain
    convolution.bias[:channels] += vae.config.shift_factor


def _pictures(count: int, size: int) -> Tensor:
    """Gradients, stripes and discs of random colours: [count, 3, size, size] in [0, 1]."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    draw = torch.rand(count, 4, 4, generator=torch.Generator().manual_seed(_SEED))
    colours = draw[..., :3, None, None]  # [count, 4, 3, 1, 1]
    pictures = []
    for (low, high, disc, stripe), numbers in zip(colours, draw[..., 3], strict=True):
        angle, cx, cy, frequency = numbers.tolist()
        along = x * torch.cos(numbers[0] * 6.28) + y * torch.sin(numbers[0] * 6.28)
        picture = low + (high - low) * (along + 1) / 2
        stripes = torch.sin(along * (4 + 40 * frequency)) > 0.5
        inside = (x - 2 * cx + 1) ** 2 + (y - 2 * cy + 1) ** 2 < (0.2 + 0.5 * angle) ** 2
        picture = torch.where(stripes, stripe, picture)
        pictures.append(torch.where(inside, disc, picture))
    return torch.stack(pictures).clamp(0, 1)
