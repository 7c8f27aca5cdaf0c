"""The VAEs of Wan and FLUX behind one interface, for training: clips in, clips out."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.backbones.nano.parts import load_vae, new_vae
from mmdiff_video.pretraining.wan_vae import decode_clip, encode_clip

# Standard deviation exp(-3) of the posterior to begin with: at diffusers' own start it is 1, and
# the latent drowns in noise for thousands of steps.
_FIRST_LOG_VARIANCE = -6.0


class Coder(nn.Module):
    """A diffusers VAE that is trained; the only submodule is ``vae``.

    Args:
        vae: the diffusers autoencoder of its family.

    Attributes:
        normalization: names in the VAE's config that say how its latents are normalised.
        decoder_only: whether the encoder is frozen.
    """

    normalization: ClassVar[tuple[str, ...]]

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = vae
        self.decoder_only = False

    def freeze_encoder(self, frozen: bool = True) -> None:
        """Train the decoder alone, on the posterior's mean; with False, all of the VAE again."""
        self.decoder_only = frozen
        for name, parameter in self.vae.named_parameters():
            if name.startswith(("encoder.", "quant_conv.")):
                parameter.requires_grad_(not frozen)

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct through a sampled latent, or through the mean with a frozen encoder.

        Args:
            video: [B, 3, F, H, W] in [-1, 1].

        Returns:
            the reconstruction, not clamped, and the posterior's mean and log-variance.
        """
        if self.decoder_only:
            with torch.no_grad():
                mean, log_variance = self.posterior(video)
            return self.decode(mean), mean, log_variance
        mean, log_variance = self.posterior(video)
        noise = torch.randn_like(mean)
        return self.decode(mean + torch.exp(log_variance / 2) * noise), mean, log_variance

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Encode to mean and log-variance, each [B, c, f, h, w], float32."""
        mean, log_variance = self.encode(video).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)  # diffusers' own limits

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """Map pixels [B, 3, F, H, W] to mean and log-variance, not clamped: [B, 2c, f, h, w]."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Map a latent [B, c, f, h, w], not normalised, to pixels [B, 3, F, H, W], not clamped."""

    @abstractmethod
    def normalize(self, mean: Tensor, std: Tensor) -> None:
        """Give the latents that the DiT sees zero mean and unit deviation, as the family does.

        Args:
            mean, std: [c], of this VAE's latents over the corpus.
        """


class WanCoder(Coder):
    """Wan's causal video VAE: f = 1 + (F - 1) / 4."""

    normalization = ("latents_mean", "latents_std")

    def encode(self, video: Tensor) -> Tensor:
        return encode_clip(self.vae, video)

    def decode(self, latent: Tensor) -> Tensor:
        return decode_clip(self.vae, latent)

    def normalize(self, mean: Tensor, std: Tensor) -> None:
        """Write the statistics of every channel to the config, where Wan keeps them."""
        self.vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())


class ImageCoder(Coder):
    """FLUX's image VAE, on every frame by itself: f = F."""

    normalization = ("scaling_factor", "shift_factor")

    def encode(self, video: Tensor) -> Tensor:
        images = video.transpose(1, 2).flatten(0, 1)
        parameters = self.vae.encode(images).latent_dist.parameters
        return parameters.unflatten(0, (len(video), -1)).transpose(1, 2)

    def decode(self, latent: Tensor) -> Tensor:
        images = self.vae.decode(latent.transpose(1, 2).flatten(0, 1)).sample
        return images.unflatten(0, (len(latent), -1)).transpose(1, 2)

    @torch.no_grad()
    def normalize(self, mean: Tensor, std: Tensor) -> None:
        """Fold every channel's deviation into the convolutions on both sides of the latent.

        The config has room for one scale and one shift, not for one a channel. The scales are exact
        that way. The channels' means cannot be folded, because the decoder pads with zeros: only
        their average is taken off, as the shift.
        """
        channels = len(mean)
        out, into = self.vae.encoder.conv_out, self.vae.decoder.conv_in
        out.weight[:channels] /= std.reshape(-1, 1, 1, 1)
        out.bias[:channels] /= std
        out.bias[channels:] -= 2 * std.log()
        into.weight *= std.reshape(1, -1, 1, 1)
        self.vae.register_to_config(scaling_factor=1.0, shift_factor=float((mean / std).mean()))


_CODERS: dict[str, type[Coder]] = {"WanPipeline": WanCoder, "FluxPipeline": ImageCoder}


def new_coder(card: BackboneCard) -> Coder:
    """Build the VAE of a card with weights to start a training from, from torch's generator."""
    coder = _CODERS[card.pipeline](new_vae(card))
    _initialize(coder.vae)
    return coder


def load_coder(folder: Path, pipeline: str) -> Coder:
    """Open a VAE's diffusers folder, in float32."""
    return _CODERS[pipeline](load_vae(folder, pipeline))


@torch.no_grad()
def _initialize(vae: Any) -> None:
    """Let signals keep their size through the depth, from the first step on.

    Residual blocks begin as their shortcuts; 3D convolutions begin as 2D ones that see the current
    frame alone, and those over time pass it on: what was learnt on images serves on clips, where
    it keeps every fourth frame and holds it. The latent begins almost without noise.
    """
    for name, layer in vae.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d) or layer.bias is None:
            continue
        weight = layer.weight
        inputs = weight[0].numel()
        if name.endswith("quant_conv"):
            nn.init.dirac_(weight)
        elif name.endswith("time_conv"):  # [C or 2C, C, 3, 1, 1]
            weight.zero_()
            channels = weight.shape[1]
            weight[:, :, -1, 0, 0] = torch.eye(channels).repeat(len(weight) // channels, 1)
        elif name.endswith("conv2"):
            weight.zero_()
        elif weight.ndim == 5 and weight.shape[-1] > 1:
            weight.zero_()
            weight[:, :, -1].normal_(0, (inputs / weight.shape[2]) ** -0.5)
        else:
            weight.normal_(0, inputs**-0.5)
        layer.bias.zero_()
    out = vae.encoder.conv_out
    half = out.weight.shape[0] // 2
    out.weight[half:] *= 0.1
    out.bias[half:] = _FIRST_LOG_VARIANCE
