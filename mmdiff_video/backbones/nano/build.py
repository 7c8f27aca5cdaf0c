"""Build the nano backbones: every component of the big pipelines at a size for two CPU cores.

The weights are random from a fixed seed. A folder made here has the files of a big model's and is
loaded by the same code.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.bars import bars_on_terminals_only
from mmdiff_video.backbones.cards import RANDOM, BackboneCard, load_card
from mmdiff_video.backbones.hub import FOLDER_CARD
from mmdiff_video.backbones.latents import shift_factor
from mmdiff_video.backbones.nano.parts import (
    make_pipeline,
    new_text_encoders,
    new_tokenizers,
    new_transformer,
    new_vae,
)
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.files import remove_stale_partials, write_folder_aside
from mmdiff_video.resources import cache_dir

logger = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)

_SEED = 0
# Part of the cache key: raise it when the code below builds something else from the same card.
_RECIPE = 3


def build_cached(name: str) -> Path:
    """Return the folder of a built-in backbone, building it on first use.

    Several processes may do so at once: each builds aside, the first rename wins, and all the
    others find the same bytes there.
    """
    card = load_card(name)
    recipe = json.dumps([_RECIPE, _SEED, asdict(card)], sort_keys=True)
    key = hashlib.blake2b(recipe.encode(), digest_size=6).hexdigest()
    folder = cache_dir() / "backbones" / f"{name.removesuffix(RANDOM)}-{key}"
    if not folder.is_dir():
        remove_stale_partials(folder.parent)
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
    tokenizers = new_tokenizers(card)
    modules = {
        "vae": new_vae(card),
        "transformer": new_transformer(card),
        **new_text_encoders(card, tokenizers),
    }
    for module in modules.values():
        _initialised(module)
    _normalize_latents(modules["vae"])
    pipeline = make_pipeline(card, **modules, **tokenizers)
    save_backbone(
        pipeline,
        folder,
        {"untrained": True, "scale": card.scale, "defaults": asdict(card.defaults)},
    )
    return {name: sum(p.numel() for p in m.parameters()) for name, m in modules.items()}


def save_backbone(pipeline: Any, folder: Path, note: Mapping[str, Any]) -> None:
    """Write a pipeline's diffusers folder in bfloat16, with its card for this toolkit.

    Args:
        pipeline: its modules are rounded to bfloat16 where they are.
        folder: where to; made if absent.
        note: the contents of ``mmdiff.json``: ``untrained``, ``scale``, ``defaults``.
    """
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            # diffusers' own to() warns of modules kept in float32; the loader widens those again
            nn.Module.to(module, torch.bfloat16)
    with bars_on_terminals_only():
        pipeline.save_pretrained(folder)
    (folder / FOLDER_CARD).write_text(json.dumps(note, indent=2) + "\n")


def _initialised(module: Module) -> Module:
    """Fill in weights that depend on their names alone, not on library versions or build order.

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


def _normalize_latents(vae: Any) -> None:
    """Give the latents of synthetic pictures the scale that the family's config promises."""
    if vae.config.get("latents_mean") is not None:  # every channel's own mean and deviation
        pictures = _pictures(16, 96)
        clips = torch.stack([pictures.roll(4 * f, dims=-1) for f in range(5)], dim=2)
        mean, std = _latent_statistics(vae, clips)
        vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
        return
    # one scale and shift for all: the encoder's last layer gives them to every channel
    mean, std = _latent_statistics(vae, _pictures(16, 96))
    gain = 1 / (vae.config.scaling_factor * std)
    convolution = vae.encoder.conv_out
    channels = len(mean)  # the other half of the outputs are the posterior's log-variances
    convolution.weight[:channels] *= gain.reshape(-1, 1, 1, 1)
    convolution.bias[:channels] = (convolution.bias[:channels] - mean) * gain
    convolution.bias[:channels] += shift_factor(vae)


def _latent_statistics(vae: Any, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [c] of the latents of pictures or clips in [0, 1]."""
    latent = vae.encode(pictures * 2 - 1).latent_dist.mode()
    per_channel = latent.transpose(0, 1).flatten(1)
    return per_channel.mean(1), per_channel.std(1)


def _pictures(count: int, size: int) -> Tensor:
    """Gradients, stripes and discs of random colours: [count, 3, size, size] in [0, 1]."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    random = torch.rand(count, 4, 4, generator=torch.Generator().manual_seed(_SEED))
    colours = random[..., :3, None, None]  # [count, 4, 3, 1, 1]
    pictures = []
    for (low, high, disc, stripe), numbers in zip(colours, random[..., 3], strict=True):
        angle, cx, cy, frequency = numbers.tolist()
        along = x * torch.cos(numbers[0] * 6.28) + y * torch.sin(numbers[0] * 6.28)
        picture = low + (high - low) * (along + 1) / 2
        stripes = torch.sin(along * (4 + 40 * frequency)) > 0.5
        inside = (x - 2 * cx + 1) ** 2 + (y - 2 * cy + 1) ** 2 < (0.2 + 0.5 * angle) ** 2
        picture = torch.where(stripes, stripe, picture)
        pictures.append(torch.where(inside, disc, picture))
    return torch.stack(pictures).clamp(0, 1)
