"""How families turn pictures into latents, and lay latents out for the transformer.

Each kind is a pair of small functions, one the inverse of the other, that rows of ``families/``
name.
Pictures are [N, 3, F, H, W] in [-1, 1] and latents [N, c, F, h, w] throughout; F = 1 for an image
model. ``vae`` is the loaded diffusers autoencoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: (F, h, w) of a latent.
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Codec:
    """Running the autoencoder.

    Attributes:
        encode: (vae, pictures) -> raw latents, the posterior's mode.
        decode: (vae, raw latents) -> pictures.
    """

    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Scale:
    """Bringing raw latents to the scale that the transformer was trained on.

    Attributes:
        normalise: (vae, raw latents) -> latents of about unit scale.
        restore: its inverse.
    """

    normalise: Callable[[Any, Tensor], Tensor]
    restore: Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Packing:
    """The layout in which the transformer takes latents and the pipeline keeps them.

    Attributes:
        pack: latents -> that layout.
        unpack: (that layout, (F, h, w)) -> latents.
    """

    pack: Callable[[Tensor], Tensor]
    unpack: Callable[[Tensor, Grid], Tensor]


@dataclass(frozen=True)
class Latents:
    """All three, in the order in which a picture goes through them."""

    codec: Codec
    scale: Scale
    packing: Packing

    def encode(self, vae: Any, pictures: Tensor) -> Tensor:
        """Pictures -> normalised latents."""
        return self.scale.normalise(vae, self.codec.encode(vae, pictures))

    def decode(self, vae: Any, latent: Tensor) -> Tensor:
        """Inverse of :meth:`encode`."""
        return self.codec.decode(vae, self.scale.restore(vae, latent))


def _encode_pictures(vae: Any, pictures: Tensor) -> Tensor:
    return vae.encode(pictures[:, :, 0]).latent_dist.mode()[:, :, None]


def _decode_pictures(vae: Any, latent: Tensor) -> Tensor:
    return vae.decode(latent[:, :, 0]).sample[:, :, None]


def _encode_clips(vae: Any, pictures: Tensor) -> Tensor:
    return _paired(lambda x: vae.encode(x).latent_dist.mode(), pictures)


def _decode_clips(vae: Any, latent: Tensor) -> Tensor:
    return _paired(lambda z: vae.decode(z).sample, latent)


def _paired(run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Run a 3D convolution network on at least two samples on a CPU.

    PyTorch gives a lone sample with few channels to a naive kernel; with a twin it takes oneDNN and
    is nearly twice as fast, twin included.
    """
    if batch.device.type == "cpu" and batch.shape[0] == 1:
        return run(batch.expand(2, *batch.shape[1:]))[:1]
    return run(batch)


#: An image autoencoder (``AutoencoderKL``): one frame at a time.
PICTURES = Codec(_encode_pictures, _decode_pictures)
#: A causal video autoencoder (``AutoencoderKLWan``).
CLIPS = Codec(_encode_clips, _decode_clips)


def _by_shift_and_factor(vae: Any, latent: Tensor) -> Tensor:
    return (latent - shift_factor(vae)) * vae.config.scaling_factor


def _back_by_shift_and_factor(vae: Any, latent: Tensor) -> Tensor:
    return latent / vae.config.scaling_factor + shift_factor(vae)


def shift_factor(vae: Any) -> float:
    """Read the autoencoder's shift: 0 where its config has none, as before Stable Diffusion 3."""
    return vae.config.shift_factor or 0.0


def _by_statistics(vae: Any, latent: Tensor) -> Tensor:
    mean, std = _statistics(vae, latent)
    return (latent - mean) / std


def _back_by_statistics(vae: Any, latent: Tensor) -> Tensor:
    mean, std = _statistics(vae, latent)
    return latent * std + mean


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (
        torch.tensor(values).to(like).reshape(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std


#: ``(z - shift_factor) * scaling_factor`` of the autoencoder's config; no shift_factor is 0.
SHIFT_AND_FACTOR = Scale(_by_shift_and_factor, _back_by_shift_and_factor)
#: Every channel by its own ``latents_mean`` and ``latents_std``.
STATISTICS = Scale(_by_statistics, _back_by_statistics)


def pack(latent: Tensor) -> Tensor:
    """[N, c, h, w] -> tokens [N, h/2 * w/2, 4c] of 2x2 cells, channel-major."""
    n, c, h, w = latent.shape
    cells = latent.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(n, h // 2 * (w // 2), 4 * c)


def unpack(tokens: Tensor, h: int, w: int) -> Tensor:
    """Inverse of :func:`pack`."""
    cells = tokens.reshape(len(tokens), h // 2, w // 2, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(len(tokens), -1, h, w)


#: As it is, [N, c, F, h, w].
WHOLE = Packing(lambda latent: latent, lambda latent, grid: latent)
#: One picture, [N, c, h, w].
FLAT = Packing(lambda latent: latent[:, :, 0], lambda latent, grid: latent[:, :, None])
#: One picture as a sequence of 2x2 cells.
CELLS = Packing(
    lambda latent: pack(latent[:, :, 0]),
    lambda tokens, grid: unpack(tokens, *grid[1:])[:, :, None],
)
