"""Widen the encoder or decoder of a trained Wan VAE without changing what it computes.

Net2WiderNet (Chen, Goodfellow, Shlens 2016, Sec. 2.3): every hidden channel is there several
times, and what reads it splits its weights unequally between the copies, so that they come apart
as training goes on. Copies lie in blocks, one after the other, which is how the shortcuts of
the resampling keep them together; Wan's RMS norm is the same for repeated channels.
"""

from typing import Any

import torch
from torch import Tensor

from mmdiff_video.errors import InputError

_GROUPS = {"to_qkv": 3, "upsampler.time_conv": 2, "upsamplers.0.time_conv": 2}
"""Layers whose output channels are several tensors side by side, by the end of their names."""


@torch.no_grad()
def widen(narrow: Any, wide: Any) -> None:
    """Fill a VAE with the weights of one that is alike but narrower.

    Args:
        narrow: an ``AutoencoderKLWan``.
        wide: with a multiple of its ``base_dim``, of its ``decoder_base_dim``, or of both; the
            split comes from torch's generator.

    Raises:
        InputError: other architectures.
    """
    old, new = _widths(narrow), _widths(wide)
    same = all(
        narrow.config[name] == value
        for name, value in wide.config.items()
        if not name.startswith(("_", "latents_")) and not name.endswith("base_dim")
    )
    if not same or any(new[part] % old[part] for part in old):
        raise InputError(
            "a VAE can be widened to multiples of its base_dim and decoder_base_dim and in nothing"
            " else"
        )
    factors = {part: new[part] // old[part] for part in old}
    found = narrow.state_dict()
    wide.load_state_dict(
        {
            name: _widened(name, found[name], parameter.shape, factors.get(name.split(".")[0], 1))
            for name, parameter in wide.state_dict().items()
        }
    )
    wide.register_to_config(
        latents_mean=narrow.config.latents_mean, latents_std=narrow.config.latents_std
    )


def _widths(vae: Any) -> dict[str, int]:
    base = vae.config.base_dim
    return {"encoder": base, "decoder": vae.config.decoder_base_dim or base}


def _widened(name: str, weight: Tensor, shape: torch.Size, factor: int) -> Tensor:
    if weight.shape == shape:
        return weight
    layer = name.rpartition(".")[0]
    groups = weight.chunk(next((n for end, n in _GROUPS.items() if layer.endswith(end)), 1))
    if layer.endswith("to_qkv"):  # twice the products at twice the width: q k / sqrt(d) grows
        groups = (groups[0] * factor**-0.5, *groups[1:])
    if shape[0] > len(weight):
        groups = [torch.cat([group] * factor) for group in groups]
    weight = torch.cat(list(groups))
    if weight.ndim > 1 and shape[1] > weight.shape[1]:
        copies = weight.new_empty(factor, *weight.shape).normal_() * weight.std() / 2
        copies += weight / factor - copies.mean(0)
        weight = torch.cat(list(copies), dim=1)
    return weight
