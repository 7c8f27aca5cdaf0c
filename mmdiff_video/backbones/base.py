"""The interface every frozen diffusion transformer is used through.

A backbone never knows a task; a task never knows which backbone it has. Videos are
``[B, 3, F, H, W]`` in [0, 1], latents ``[B, c, F, h, w]`` in the backbone's normalised scale (for
images too, F = 1), timesteps floats in [0, 1] with 1 = pure noise: the sigma of flow matching.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.features.types import DiTFeatures, TapSpec


@dataclass(frozen=True, kw_only=True)
class BackboneDefaults:
    """What a backbone does when the caller does not say: one per file in ``configs/backbones``.

    Attributes:
        taps: tap names or short forms.
        timesteps: the set T, in [0, 1].
        prompt: the text given with real clips, which come without a caption.
        guidance: guidance scale used when sampling.
        extract_guidance: guidance value embedded in the forward on real data (guidance-distilled
            models such as FLUX.1-dev); None where the model takes none.
        steps: sampling steps.
        text_tokens: length that prompts are padded to.
        height, width, frames: default size in pixels and frames.
        hidden_width: the aggregator's width D.
    """

    taps: tuple[str, ...]
    timesteps: tuple[float, ...]
    prompt: str
    guidance: float
    extract_guidance: float | None
    steps: int
    text_tokens: int
    height: int
    width: int
    frames: int
    hidden_width: int


@dataclass(frozen=True, kw_only=True)
class LatentGeometry:
    """How pixels, latent cells and tokens relate.

    Attributes:
        channels: latent channels c.
        time_stride: frames per latent frame after the first, which stands alone (Wan: 4). 1 for an
            image backbone, which sees every frame on its own.
        space_stride: pixels per latent cell (8).
        patch: latent cells per token side (2).
        is_video: whether frames attend to each other.
    """

    channels: int
    time_stride: int
    space_stride: int
    patch: int
    is_video: bool

    def latent_frames(self, frames: int) -> int:
        """Number of latent frames F for a clip of ``frames`` pictures."""
        return (frames - 1) // self.time_stride + 1

    def latent_grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (F, h, w) of the latent."""
        s = self.space_stride
        return self.latent_frames(frames), height // s, width // s

    def token_grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (F, H, W) of the token grid, which is the grid of the feature maps."""
        s = self.space_stride * self.patch
        return self.latent_frames(frames), height // s, width // s

    def check_size(self, frames: int, height: int, width: int) -> None:
        """Refuse a size that the VAE or the pipeline would silently crop.

        Raises:
            InputError: names the nearest sizes that fit.
        """
        problems: list[str] = []
        s = self.space_stride * self.patch
        for what, value in (("height", height), ("width", width)):
            if value < s or value % s:
                low = value // s * s
                fits = " or ".join(str(v) for v in (low, low + s) if v > 0)
                problems.append(f"{what} {value} is not a multiple of {s} (nearest: {fits})")
        t = self.time_stride
        if frames < 1 or (frames - 1) % t:
            low = max((frames - 1) // t * t + 1, 1)
            nearest = sorted({low, low + t})
            problems.append(
                f"{frames} frames are not 1 + a multiple of {t}"
                f" (nearest: {' or '.join(map(str, nearest))})"
            )
        if problems:
            raise InputError(f"size does not fit the backbone: {'; '.join(problems)}")


@dataclass(frozen=True)
class TextEmbedding:
    """Encoded prompts.

    Attributes:
        tokens: [B, L, text width].
        pooled: [B, pooled width], or None where the model has no pooled text (Wan).
    """

    tokens: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Generated:
    """A sample and what was read on the way.

    Attributes:
        video: [1, 3, F, H, W] in [0, 1], exactly the untapped pipeline's output.
        features: taps of the sampling run; ``features.latent`` is the denoised latent.
    """

    video: Tensor
    features: DiTFeatures


def keyed_noise(keys: Sequence[str], seed: int, shape: Sequence[int]) -> Tensor:
    """Draw one standard normal tensor per sample key, from (key, seed) alone.

    Neither the batch a sample sits in, nor chunking, nor the process that draws it matters.

    Returns:
        float32 [len(keys), *shape] on the CPU.
    """
    out = []
    for key in keys:
        digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
        # torch takes any 64-bit seed as a signed integer
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
        out.append(torch.randn(*shape, generator=generator))
    return torch.stack(out)


class Backbone(ABC):
    """A frozen diffusion transformer with its VAE and text encoder.

    Attributes:
        name: how the user asked for it (``wan``, ``nano-flux``, a hub id, a folder).
        defaults: see :class:`BackboneDefaults`.
        geometry: see :class:`LatentGeometry`.
        untrained: True for random weights; everything made from them must say so.
        fingerprint: identifies the weights; changes when they do. Part of every cache key.
        device, dtype: where and in what the transformer computes.
    """

    name: str
    defaults: BackboneDefaults
    geometry: LatentGeometry
    untrained: bool
    fingerprint: str
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """VAE-encode ``[B, 3, F, H, W]`` in [0, 1] to normalised latents ``[B, c, F, h, w]`` float32.

        Deterministic (the posterior's mode). An image backbone folds the frames into the batch.

        Raises:
            InputError: a size that :meth:`LatentGeometry.check_size` refuses.
        """

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """VAE-decode latents to ``[B, 3, F, H, W]`` in [0, 1], float32."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str]) -> TextEmbedding:
        """Encode prompts as the stock pipeline does; each distinct prompt is encoded once and kept."""

    @abstractmethod
    def tap_specs(self) -> list[TapSpec]:
        """All blocks that can be tapped, in forward order."""

    @abstractmethod
    def resolve_taps(self, taps: Sequence[str | int] | None = None) -> list[TapSpec]:
        """Turn tap names and short forms into specs in forward order, without duplicates.

        ``double.12``, ``single.15``, ``block.7`` are names; ``4`` and ``-1`` count in the default
        stream (FLUX: ``single``); ``last-4`` is its last four blocks. None means the defaults.

        Raises:
            InputError: an unknown tap; the message lists the valid ones.
        """

    @abstractmethod
    def extract(
        self,
        video: Tensor,
        prompt: str | Sequence[str] | None = None,
        taps: Sequence[str | int] | None = None,
        timesteps: Sequence[float] | None = None,
        *,
        keys: Sequence[str],
        seed: int = 0,
        chunk: int | None = None,
    ) -> DiTFeatures:
        """Read the taps on real data: encode, noise to each t, forward to the last tapped block.

        Args:
            video: [B, 3, F, H, W] in [0, 1].
            prompt: one for all samples or one each; None means ``defaults.prompt``.
            taps, timesteps: None means the defaults.
            keys: one sample key each; the noise is drawn from (key, seed) alone.
            seed: see ``keys``.
            chunk: at most this many (sample, timestep) pairs in a forward; None: all that fit.
        """

    @abstractmethod
    def generate(
        self,
        prompt: str,
        taps: Sequence[str | int] | None = None,
        timesteps: Sequence[float] | None = None,
        *,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        frames: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
    ) -> Generated:
        """Sample from a prompt and tap the run itself, on the conditional branch only.

        Taps are read at the steps whose sigma is nearest to each t; a t below every sigma of the
        schedule costs one extra forward on the final latent. The sample is bit-identical to an
        untapped run of the diffusers pipeline with ``torch.Generator("cpu").manual_seed(seed)``.

        Raises:
            InputError: a size that does not fit, or a schedule so short that two t share a step.
        """

    def add_noise(
        self, latent: Tensor, t: float | Tensor, keys: Sequence[str], seed: int = 0
    ) -> Tensor:
        """Noise latents to t: ``x_t = (1 - t) x_0 + t eps`` in float32 (flow matching; t is sigma).

        Args:
            latent: [B, c, F, h, w].
            t: one timestep, or one per sample [B].
            keys: one sample key each; eps comes from (key, seed) alone.
            seed: see ``keys``.
        """
        x0 = latent.float()
        eps = keyed_noise(keys, seed, x0.shape[1:]).to(x0.device)
        t = torch.as_tensor(t, dtype=torch.float32, device=x0.device)
        t = t.reshape(-1, *[1] * (x0.ndim - 1))
        return (1 - t) * x0 + t * eps
