"""Stable Diffusion 3 and 3.5 text-to-image: medium, with its dual attention, and large."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.backbones.concepts.joint import (
    ConceptAttention,
    JointBlock,
    JointWordAttention,
    as_the_text,
)
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS, ConceptReader, output_of
from mmdiff_video.backbones.family import (
    Components,
    Concepts,
    Config,
    EncodeText,
    Family,
    Picture,
    Stream,
    Text,
    TextPart,
    halvings,
    thousandths,
)
from mmdiff_video.backbones.latents import FLAT, PICTURES, SHIFT_AND_FACTOR, Latents
from mmdiff_video.backbones.types import BackboneDefaults, LatentGeometry, TextEmbedding
from mmdiff_video.errors import InputError


def _geometry(transformer: Config, vae: Config) -> LatentGeometry:
    return LatentGeometry(
        channels=transformer["in_channels"],
        time_stride=1,
        space_stride=halvings(vae),
        patch=transformer["patch_size"],
        is_video=False,
        longest=transformer.get("pos_embed_max_size"),  # of its table of positions
    )


def _encode(pipeline: Any, prompt: str, length: int, device: torch.device) -> TextEmbedding:
    """The two CLIP encodings side by side, padded to T5's width, then T5's behind them."""
    tokens, _, pooled, _ = pipeline.encode_prompt(
        prompt,
        None,
        None,
        do_classifier_free_guidance=False,
        max_sequence_length=length,
        device=device,
    )
    # no mask says where the prompt ends: the tokenizers do
    words = torch.zeros(1, tokens.shape[1], dtype=torch.bool, device=tokens.device)
    clip_length = pipeline.tokenizer_max_length
    ids = pipeline.tokenizer(prompt, truncation=True, max_length=clip_length).input_ids
    words[:, 1 : max(len(ids) - 1, 2)] = True  # between begin and end; of an empty prompt the end
    ids = pipeline.tokenizer_3(prompt, truncation=True, max_length=length).input_ids
    words[:, clip_length : clip_length + len(ids) - 1] = True
    return TextEmbedding({"tokens": tokens, "pooled": pooled}, words)


class SD3JointBlock(JointBlock):
    """A joint block. Positions are in the tokens themselves; SD 3.0 norms no queries and keys."""

    def picture_heads(self, normed: Tensor, call: dict[str, Any]) -> Tensor:
        """Queries and keys are normed as [N, heads, L, d]; without a norm split them here."""
        return normed if normed.ndim == 4 else self.split_heads(normed)

    def text_heads(self, normed: Tensor) -> Tensor:
        """The same for the text."""
        return self.picture_heads(normed, {})

    def context(self, concepts: Tensor, conditioning: Tensor) -> tuple[Tensor, Any]:
        """The last block ends its text, so that its norm has no gates to return."""
        if self.block.context_pre_only:
            return self.block.norm1_context(concepts, conditioning), None
        return super().context(concepts, conditioning)

    def watch(self, keep: Callable[[Any], None], note: Callable[..., None]) -> None:
        """Note the picture's queries as well."""
        super().watch(keep, note)
        keep(output_of(self.end_of("norm_q", "to_q"), lambda queries: note(queries=queries)))

    def compared(
        self, outputs: Tensor, keys: Tensor, values: Tensor, seen: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """o_c at unit length; a second attention of the picture, over itself and the concepts."""
        queries = self.picture_heads(seen["queries"], seen["call"])
        picture = F.scaled_dot_product_attention(queries, keys, values)
        return F.normalize(outputs.float(), dim=-1), picture.transpose(1, 2).flatten(2)


def _concept_reader(
    pipeline: Any,
    encode: EncodeText,
    concepts: Sequence[str],
    blocks: Sequence[int],
    text: TextEmbedding,
) -> ConceptReader:
    """Concept attention as the authors' code has it for SD3, where it differs from that for FLUX.

    The concepts, joined by blanks, are one prompt, and CLIP's part of its encoding gives a token
    for each of them. Its begin-of-text token goes through the blocks with them and is dropped from
    the maps. They are modulated as the forward's own text, pooled vector included. o_x is not the
    picture's output in the forward but that of a second attention, of its queries over picture and
    concepts; o_c is brought to unit length. All blocks are read unless some are chosen; the second
    attention of medium's dual blocks sees the picture alone and has no part in this.

    Left open there, where each concept is taken to be one token: of several ours is the last, the
    one that has seen the others (CLIP looks back only). The maps, not the vectors, are averaged
    over timesteps, as for the other families.

    Raises:
        InputError: more concepts than CLIP's text has room for.
    """
    transformer = pipeline.transformer
    joint = [SD3JointBlock(block) for block in transformer.transformer_blocks]
    if PROMPT_WORDS in concepts:
        return JointWordAttention([joint[i] for i in blocks], text.words)
    lengths = [len(pipeline.tokenizer(concept).input_ids) - 2 for concept in concepts]
    places = [0, *accumulate(lengths)]
    if places[-1] > pipeline.tokenizer_max_length - 2:
        raise InputError(
            f"the concepts have {places[-1]} tokens, more than the"
            f" {pipeline.tokenizer_max_length - 2} that fit: give fewer, or shorter ones"
        )
    return ConceptAttention(
        transformer.time_text_embed,
        transformer.context_embedder,
        joint[: max(blocks) + 1],
        blocks,
        tokens=encode([" ".join(concepts)]).tokens[0, places],
        modulation=as_the_text,
        unmapped=1,
    )


def _tiny() -> BackboneCard:
    return BackboneCard(
        source=None,
        pipeline="StableDiffusion3Pipeline",
        scale="laptop",
        defaults=BackboneDefaults(
            taps=("joint.0", "joint.2"),
            timesteps=(0.78, 0.52, 0.26, 0.001),
            prompt="A photograph of a real place.",
            guidance=4.5,
            extract_guidance=None,
            steps=12,
            text_tokens=16,
            height=32,
            width=48,
            frames=1,
        ),
        transformer={
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 3,
            "num_attention_heads": 2,
            "attention_head_dim": 24,
            "joint_attention_dim": 32,
            "caption_projection_dim": 48,
            "pooled_projection_dim": 24,
            "pos_embed_max_size": 16,
            "dual_attention_layers": [0, 1],
            "qk_norm": "rms_norm",
        },
        vae={
            "latent_channels": 16,
            "block_out_channels": [8, 8, 16, 16],
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "scaling_factor": 1.5305,
            "shift_factor": 0.0609,
        },
        build={"text_layers": 2, "clip_widths": [16, 8], "scheduler": {"shift": 3.0}},
    )


FAMILY = Family(
    name="Stable Diffusion 3",
    pipelines=("StableDiffusion3Pipeline",),
    card="sd3.5-medium",
    streams=(
        Stream(
            name="joint",
            blocks="transformer_blocks",
            depth="num_layers",
            picture=Picture(item=1),  # behind the text, which the last block returns as None
        ),
    ),
    default_stream="joint",
    geometry=_geometry,
    latents=Latents(PICTURES, SHIFT_AND_FACTOR, FLAT),
    text=Text(
        encode=_encode,
        transformer={"tokens": "encoder_hidden_states", "pooled": "pooled_projections"},
        pipeline={"tokens": "prompt_embeds", "pooled": "pooled_prompt_embeds"},
        negative={"tokens": "negative_prompt_embeds", "pooled": "negative_pooled_prompt_embeds"},
    ),
    timestep=thousandths,
    concepts=Concepts(stream="joint", reader=_concept_reader),
    components=Components(
        transformer="SD3Transformer2DModel",
        vae="AutoencoderKL",
        scheduler="FlowMatchEulerDiscreteScheduler",
        text_encoders={
            "text_encoder": TextPart(
                kind="projected_clip", width=lambda card: card.build["clip_widths"][0]
            ),
            "text_encoder_2": TextPart(
                kind="projected_clip", width=lambda card: card.build["clip_widths"][1]
            ),
            "text_encoder_3": TextPart(
                kind="t5", width=lambda card: card.transformer["joint_attention_dim"]
            ),
        },
    ),
    tiny=_tiny,
)
