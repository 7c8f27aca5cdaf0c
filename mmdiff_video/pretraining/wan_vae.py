"""Wan's causal VAE on a whole clip at once, for training.

diffusers feeds its ``AutoencoderKLWan`` four frames at a time through a cache of features,
which bounds the memory of long videos. Every layer is causal, so running all frames at once gives
the same numbers with larger convolutions, and gradients need no cache. Two layers tell the first
frame from the rest: the temporal down- and upsampling leave it alone.
"""

from typing import Any

import torch
from torch import Tensor, nn


def encode_clip(vae: Any, video: Tensor) -> Tensor:
    """Encode [B, 3, F, H, W] in [-1, 1] to mean and log-variance [B, 2c, f, h, w].

    Equal to ``vae.encode(video).latent_dist.parameters``.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    if vae.config.patch_size is not None:
        video = patchify(video, vae.config.patch_size)
    encoder = vae.encoder
    x = encoder.conv_in(video)
    for block in encoder.down_blocks:
        x = _down(block, x)
    x = encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x)))
    return vae.quant_conv(encoder.conv_out(x))


def decode_clip(vae: Any, latent: Tensor) -> Tensor:
    """Decode [B, c, f, h, w] to [B, 3, F, H, W].

    Equal to ``vae.decode(latent).sample`` before its clamping to [-1, 1].
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latent)))
    for block in decoder.up_blocks:
        x = _up(block, x)
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    if vae.config.patch_size is not None:
        x = unpatchify(x, vae.config.patch_size)
    return x


def _down(block: nn.Module, x: Tensor) -> Tensor:
    from diffusers.models.autoencoders.autoencoder_kl_wan import (
        WanResample,
        WanResidualDownBlock,
    )

    if isinstance(block, WanResample):
        return _resample(block, x)
    if not isinstance(block, WanResidualDownBlock):
        return block(x)
    shortcut = block.avg_shortcut(x)
    for resnet in block.resnets:
        x = resnet(x)
    if block.downsampler is not None:
        x = _resample(block.downsampler, x)
    return x + shortcut


def _up(block: Any, x: Tensor) -> Tensor:
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualUpBlock

    residual = isinstance(block, WanResidualUpBlock)
    shortcut = (
        block.avg_shortcut(x, first_chunk=True)
        if residual and block.avg_shortcut
        else torch.zeros(())
    )
    for resnet in block.resnets:
        x = resnet(x)
    if residual and block.upsampler is not None:
        return _resample(block.upsampler, x) + shortcut
    if not residual and block.upsamplers is not None:
        return _resample(block.upsamplers[0], x)
    return x


def _resample(layer: Any, x: Tensor) -> Tensor:
    """Resample [B, C, F, H, W] in space and, in the 3D modes, all frames but the first in time."""
    batch, frames = x.shape[0], x.shape[2]
    if layer.mode == "upsample3d" and frames > 1:
        # two frames for one, side by side in the channels
        pairs = layer.time_conv(x[:, :, 1:]).unflatten(1, (2, -1))  # [B, 2, C, F - 1, H, W]
        x = torch.cat([x[:, :, :1], pairs.movedim(1, 3).flatten(2, 3)], dim=2)
        frames = x.shape[2]
    x = layer.resample(x.transpose(1, 2).flatten(0, 1))
    x = x.unflatten(0, (batch, frames)).transpose(1, 2)
    if layer.mode == "downsample3d" and frames > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)
    return x
