"""The plain values of the backbone interface: defaults, geometry, text, samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from mmdiff_video.backbones.features import DiTFeatures, TapSpec
from mmdiff_video.checks import check_fields
from mmdiff_video.errors import InputError

_LARGEST = 2**16
"""No model has more channels, or a wider token, than this."""

_LONGEST_PROMPT = 2**16
"""Tokens; no text encoder has been trained on as many."""


@dataclass(frozen=True, kw_only=True)
class BackboneDefaults:
    """What a backbone does when the caller does not say: one per file in ``configs/backbones``.

    Attributes:
        taps: tap names or short forms.
        timesteps: the set T, in [0, 1].
        prompt: the text given with pictures and clips that come without a caption.
        guidance: guidance scale used when sampling.
        extract_guidance: guidance value embedded in the forward on real data (guidance-distilled
            models such as FLUX.1-dev); None where the model takes none.
        steps: sampling steps.
        text_tokens: length that prompts are padded to.
        height, width, frames: default size in pixels and frames.
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

    def __post_init__(self) -> None:
        # YAML and JSON give lists
        object.__setattr__(self, "taps", tuple(self.taps))
        object.__setattr__(self, "timesteps", tuple(self.timesteps))
        check_timesteps(self.timesteps)
        sizes = dict.fromkeys(("steps", "text_tokens", "height", "width", "frames"), 1)
        check_fields(self, "", guidance=0, extract_guidance=0, **sizes)
        if self.text_tokens > _LONGEST_PROMPT:
            raise InputError(
                f"text_tokens is {self.text_tokens}: no text encoder reads more than"
                f" {_LONGEST_PROMPT}"
            )


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
        longest: tokens of the longest side that the model has positions for; None where any side
            does, or before the model's own config is read.
    """

    channels: int
    time_stride: int
    space_stride: int
    patch: int
    is_video: bool
    longest: int | None = None

    def __post_init__(self) -> None:
        for name in ("channels", "time_stride", "space_stride", "patch"):
            check_model_size(name, getattr(self, name))
        if self.longest is not None:
            check_model_size("longest", self.longest)

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
        """Refuse a size that the VAE or the pipeline would crop, or the model has no positions for.

        Raises:
            InputError: names the nearest sizes that fit.
        """
        for what, value in (("frames", frames), ("height", height), ("width", width)):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise InputError(f"{what} is {value!r}: it must be a whole number")
        problems: list[str] = []
        s = self.space_stride * self.patch
        for what, value in (("height", height), ("width", width)):
            if value < s or value % s:
                low = value // s * s
                nearest = {max(low, s), max(low + s, s)}
                fits = " or ".join(map(str, sorted(nearest)))
                kind = "multiple" if value > 0 else "positive multiple"
                problems.append(f"{what} {value} is not a {kind} of {s} (nearest: {fits})")
            elif self.longest is not None and value > self.longest * s:
                problems.append(f"{what} {value} is more than {self.longest * s}")
        t = self.time_stride
        if frames < 1:
            problems.append(f"frames must be at least 1, not {frames}")
        elif (frames - 1) % t:
            low = (frames - 1) // t * t + 1
            problems.append(
                f"{frames} frames are not 1 + a multiple of {t} (nearest: {low} or {low + t})"
            )
        if problems:
            raise InputError(f"size does not fit the backbone: {'; '.join(problems)}")


@dataclass(frozen=True)
class Layout:
    """What a family's configs say about a model, known before any weight is loaded.

    Attributes:
        geometry: see :class:`LatentGeometry`.
        taps: every block that can be tapped, in forward order.
        default_stream: the list of blocks that bare indices (``4``, ``-1``, ``last-4``) count in.
    """

    geometry: LatentGeometry
    taps: tuple[TapSpec, ...]
    default_stream: str


@dataclass(frozen=True)
class TextEmbedding:
    """Encoded prompts.

    Attributes:
        tensors: what the transformer is given, each [B, ...], under names that the family maps to
            its keywords. ``tokens`` [B, L, text width] is always among them; FLUX and SD3 have
            ``pooled`` [B, pooled width], other models a mask.
        words: bool [B, L], which of the tokens are the prompt's own: neither begin, end nor
            padding; at least one.
    """

    tensors: Mapping[str, Tensor]
    words: Tensor

    @property
    def tokens(self) -> Tensor:
        """[B, L, text width]."""
        return self.tensors["tokens"]

    def rows(self, index: Tensor | slice) -> "TextEmbedding":
        """Select (and repeat) rows of the batch."""
        tensors = {name: tensor[index] for name, tensor in self.tensors.items()}
        return TextEmbedding(tensors, self.words[index])

    def to(self, dtype: torch.dtype) -> "TextEmbedding":
        """Bring all but masks and indices to a dtype."""
        tensors = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in self.tensors.items()
        }
        return TextEmbedding(tensors, self.words)


def check_model_size(name: str, value: Any) -> int:
    """Check a number that a model's config says, or that follows from it, and return it.

    Raises:
        InputError: it is no whole number, or one that no model has.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        # a product may have more digits than Python writes out
        shown = str(value)[:20] if not isinstance(value, int) or abs(value) < 10**99 else "enormous"
        raise InputError(f"{name} is {shown}: it must be a whole number from 1 to {_LARGEST}")
    return value


def first_words(count: Tensor, length: int) -> Tensor:
    """Mark the first ``count`` [B] of ``length`` tokens, at least one: bool [B, length]."""
    return torch.arange(length, device=count.device) < count.clamp_min(1)[:, None]


@dataclass(frozen=True)
class Generated:
    """A sample and what was read on the way.

    Attributes:
        video: [1, 3, F, H, W] in [0, 1], exactly the untapped pipeline's output.
        features: taps of the sampling run; ``features.latent`` is the denoised latent.
    """

    video: Tensor
    features: DiTFeatures


def check_timesteps(timesteps: Sequence[float]) -> tuple[float, ...]:
    """Return the timesteps as floats.

    Raises:
        InputError: none at all, one outside [0, 1] or one given twice.
    """
    values = tuple(float(t) for t in timesteps)
    if not values:
        raise InputError("no timesteps given; give at least one in [0, 1]")
    for t in values:
        if not 0.0 <= t <= 1.0:
            raise InputError(f"timestep {t:g} is outside [0, 1] (0 = clean, 1 = pure noise)")
    if len(set(values)) < len(values):
        raise InputError(f"timesteps {', '.join(f'{t:g}' for t in values)} contain one twice")
    return values
