"""A row of the table of families: what has to be said about a kind of diffusion transformer.

A family is data. What every family shares (batching, noising, chunking, early exit, offloading, the
text cache, sampling) is in ``adapter.py``, ``extract.py`` and ``sample.py``, which ask the row.
What cannot be said in a word is a small function in the row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.backbones.concepts.reader import ConceptReader
from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.backbones.latents import Grid, Latents
from mmdiff_video.backbones.noise import noised, velocity_of
from mmdiff_video.backbones.types import (
    LatentGeometry,
    Layout,
    TextEmbedding,
    check_model_size,
)
from mmdiff_video.errors import InputError

#: What a component's ``config.json`` says.
Config = Mapping[str, Any]
#: Prompts -> their encoding, one row each.
EncodeText = Callable[[Sequence[str]], TextEmbedding]


def all_tokens(tokens: Tensor, count: int) -> Tensor:
    """Take all [N, S, C]: the sequence is the picture and nothing else."""
    return tokens


def first_tokens(tokens: Tensor, count: int) -> Tensor:
    """Take the beginning of [N, S, C], where the picture is: [N, count, C]."""
    return tokens[:, :count]


def last_tokens(tokens: Tensor, count: int) -> Tensor:
    """Take the end of [N, S, C], where the picture is: [N, count, C]."""
    return tokens[:, -count:]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Where the picture's tokens are in what a block returns.

    Attributes:
        item: position in the returned tuple; None where a block returns one tensor.
        axis: the axis of the sequence in that tensor; the other of the first two is the batch.
        part: (sequence [N, S, C], number of picture tokens) -> the picture's, in (t, h, w) order.
    """

    item: int | None = None
    axis: int = 1
    part: Callable[[Tensor, int], Tensor] = all_tokens

    def tokens(self, output: Any, count: int) -> Tensor:
        """Pick the ``count`` picture tokens [N, count, C] out of a block's output."""
        sequence = output if self.item is None else output[self.item]
        return self.part(sequence.movedim(self.axis, 1), count)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One list of blocks.

    Attributes:
        name: what its taps are called: ``double`` in ``double.12``.
        blocks: attribute of the transformer.
        depth: key of the transformer's config that says how many there are.
        picture: see :class:`Picture`.
    """

    name: str
    blocks: str
    depth: str
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class Text:
    """How prompts are encoded, and what the encodings are called.

    Attributes:
        encode: (pipeline, one prompt, length that prompts are padded to, device) -> one row, by the
            stock pipeline's own method.
        transformer: tensor of a :class:`TextEmbedding` -> keyword of the transformer's call.
        pipeline: tensor -> keyword of the pipeline's call.
        negative: the same for the branch that guidance leads away from; empty where the pipeline
            has no such branch.
    """

    encode: Callable[[Any, str, int, torch.device], TextEmbedding]
    transformer: Mapping[str, str]
    pipeline: Mapping[str, str]
    negative: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TransformerCall:
    """A call of the transformer on a batch, as far as it is known before the family's own inputs.

    Attributes:
        pipeline: the diffusers pipeline.
        hidden: the packed noisy latents, in the dtype and on the device of the forward.
        grid: (F, h, w) of the latent.
        text: one row for each of ``hidden``.
        guidance: value embedded in a guidance-distilled model.
    """

    pipeline: Any
    hidden: Tensor
    grid: Grid
    text: TextEmbedding
    guidance: float | None


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """How maps of words are read.

    Attributes:
        stream: the blocks they are read from, all of them unless the caller chooses.
        reader: (pipeline, how to encode, the concepts or ``[PROMPT_WORDS]``, indices of blocks in
            the stream, ascending, the forwards' text, one row or as many as theirs) -> the reader.
    """

    stream: str
    reader: Callable[[Any, EncodeText, Sequence[str], Sequence[int], TextEmbedding], ConceptReader]


TEXT_ENCODERS = {
    "clip": "CLIPTextModel",
    "projected_clip": "CLIPTextModelWithProjection",
    "t5": "T5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""Kind of a text encoder -> its class in transformers."""


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """A text encoder of a built member, with its tokenizer.

    Attributes:
        kind: one of :data:`TEXT_ENCODERS`.
        width: the encoder's width, from the card.
    """

    kind: str
    width: Callable[[BackboneCard], int]


@dataclass(frozen=True, kw_only=True)
class Components:
    """What a member is built of, from a card's sizes.

    Attributes:
        transformer, vae, scheduler: diffusers classes.
        text_encoders: name in the pipeline -> the encoder. ``text_encoder_2`` has its tokenizer in
            ``tokenizer_2``.
    """

    transformer: str
    vae: str
    scheduler: str
    text_encoders: Mapping[str, TextPart]

    @property
    def models(self) -> dict[str, str]:
        """Component with weights -> its class."""
        encoders = {name: TEXT_ENCODERS[part.kind] for name, part in self.text_encoders.items()}
        return {"transformer": self.transformer, "vae": self.vae, **encoders}

    @property
    def tokenizers(self) -> dict[str, str]:
        """Tokenizer -> the text encoder that it is for."""
        return {name.replace("text_encoder", "tokenizer"): name for name in self.text_encoders}


def heads_width(transformer: Config) -> int:
    """Channels of a block's output: those of its attention heads."""
    return transformer["num_attention_heads"] * transformer["attention_head_dim"]


def halvings(vae: Config) -> int:
    """Pixels per latent cell of an ``AutoencoderKL``: every level but the last halves the size."""
    levels = vae["block_out_channels"]
    if not isinstance(levels, list | tuple):
        raise TypeError(f"block_out_channels is {str(levels)[:20]}, not a list")
    return 2 ** (len(levels) - 1)


def sigma(t: Tensor) -> Tensor:
    """For transformers that take the sigma itself, in [0, 1]."""
    return t


def thousandths(t: Tensor) -> Tensor:
    """For transformers that take 1000 sigma."""
    return t * 1000


def no_inputs(call: TransformerCall) -> dict[str, Any]:
    """For transformers that need nothing but latent, timestep and text."""
    return {}


def sampled_image(output: Any) -> Tensor:
    """Take an image pipeline's output (``output_type="pt"``): [1, 3, 1, H, W] in [0, 1]."""
    return output.images[:, :, None]


def sampled_video(output: Any) -> Tensor:
    """Take a video pipeline's output (``output_type="pt"``): [1, 3, F, H, W] in [0, 1]."""
    return output.frames.transpose(1, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """One row.

    Attributes:
        name: what messages call it.
        pipelines: diffusers pipeline classes whose models it describes.
        card: the registered backbone whose defaults fit any member.
        streams: the lists of blocks, in forward order.
        default_stream: the one that bare indices (``4``, ``-1``, ``last-4``) count in.
        geometry: (the transformer's config, the VAE's) -> strides, channels, patch.
        latents: how a picture or clip becomes a latent, and back.
        text: see :class:`Text`.
        components: see :class:`Components`.
        tiny: makes the card of a member that is built and run in a test.
        width: the transformer's config -> channels of a block's output.
        timestep: our t in [0, 1], 1 = noise -> the number that the transformer takes for it.
        noised: (x_0, eps, t) -> x_t.
        velocity: (prediction, x_t, t, scheduler) -> the flow's velocity, eps - x_0.
        inputs: further keyword arguments of the transformer's call.
        sampled: the pipeline's output -> video.
        guidance: keyword of the pipeline's call for the guidance scale.
        call: further keyword arguments of that call, always the same.
        concepts: None where nothing reads concept maps.
        cuda_dtypes: component -> its dtype on CUDA, where that differs from the transformer's.
    """

    name: str
    pipelines: tuple[str, ...]
    card: str
    streams: tuple[Stream, ...]
    default_stream: str
    geometry: Callable[[Config, Config], LatentGeometry]
    latents: Latents
    text: Text
    components: Components
    tiny: Callable[[], BackboneCard]
    width: Callable[[Config], int] = heads_width
    timestep: Callable[[Tensor], Tensor] = sigma
    noised: Callable[[Tensor, Tensor, Tensor], Tensor] = noised
    velocity: Callable[[Tensor, Tensor, Tensor, Any], Tensor] = velocity_of
    inputs: Callable[[TransformerCall], dict[str, Any]] = no_inputs
    sampled: Callable[[Any], Tensor] = sampled_image
    guidance: str = "guidance_scale"
    call: Mapping[str, Any] = field(default_factory=dict)
    concepts: Concepts | None = None
    cuda_dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)

    def layout(self, transformer: Config, vae: Config) -> Layout:
        """Read blocks and geometry off the two configs, before any weight is loaded.

        Raises:
            InputError: a config lacks a key, or says what no model has.
        """
        try:
            width = check_model_size("the width of its blocks", self.width(transformer))
            depths = {stream.name: transformer[stream.depth] for stream in self.streams}
            geometry = self.geometry(transformer, vae)
        except KeyError as error:
            raise InputError(
                f"{error} is in neither transformer/config.json nor vae/config.json: the folder is"
                " not complete, or of another version of the model"
            ) from None
        # a list where a number belongs, a number where a list does, a number too large to work with
        except (TypeError, IndexError, AttributeError, ArithmeticError, MemoryError) as error:
            raise InputError(
                f"transformer/config.json or vae/config.json says what no {self.name} has: {error}"
            ) from None
        for stream in self.streams:
            check_model_size(stream.depth, depths[stream.name])
        return Layout(
            geometry=geometry,
            taps=tuple(
                TapSpec(f"{stream}.{i}", stream, i, width)
                for stream, depth in depths.items()
                for i in range(depth)
            ),
            default_stream=self.default_stream,
        )

    def blocks(self, transformer: Any) -> dict[str, nn.ModuleList]:
        """Stream name -> its blocks, in forward order."""
        return {stream.name: getattr(transformer, stream.blocks) for stream in self.streams}

    def stream(self, name: str) -> Stream:
        """Look a stream up by its name."""
        return next(stream for stream in self.streams if stream.name == name)
