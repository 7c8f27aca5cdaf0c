"""Concept maps of transformers whose text and picture attend jointly (MMDiT: FLUX, SD3.5).

ConceptAttention (Helbling et al., 2025; paper Sec. 3.2). Concept tokens pass through the blocks
beside the text, on the text's own weights. They attend to the picture and to each other; nothing
attends to them, so that the picture stays what it was. In each block

    o_c = softmax(q_c [k_x, k_c]^T / sqrt(d)) [v_x, v_c]        (paper Eq. 4)
    map = softmax over concepts of o_x . o_c                     (Eq. 5)

with o_x the picture's own attention output, both before the output projection and over all heads
at once. The maps are averaged over the chosen blocks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiff_video.backbones.concepts.reader import (
    ConceptReader,
    Sink,
    Wanted,
    attention_share,
    output_of,
    own_words,
)


@dataclass(frozen=True)
class ConceptStep:
    """What a block makes of concept tokens before their attention.

    Attributes:
        queries, keys, values: [N, heads, K, d].
        modulation: what :meth:`JointBlock.update` needs again.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    modulation: Any


class JointBlock(ABC):
    """Where things lie in a joint block: all that a family has to say for its concept maps.

    Attributes:
        block: the module.
        attention: its attention, which has ``norm_q``, ``norm_k``, ``to_v``, ``to_out`` for the
            picture and ``norm_added_k`` for the text.
    """

    def __init__(self, block: Any):
        self.block = block
        self.attention: Any = block.attn

    @abstractmethod
    def picture_heads(self, normed: Tensor, call: dict[str, Any]) -> Tensor:
        """Turn what ``norm_q`` or ``norm_k`` put out into [N, heads, L, d], positions applied.

        Args:
            normed: in the module's own layout.
            call: keyword arguments of the attention's call, for the rotary embedding.
        """

    @abstractmethod
    def text_heads(self, normed: Tensor) -> Tensor:
        """Turn what ``norm_added_k`` put out into [N, heads, L, d]; text has no position."""

    @abstractmethod
    def split_heads(self, tokens: Tensor) -> Tensor:
        """[N, L, heads * d] -> [N, heads, L, d]."""

    @abstractmethod
    def project(self, concepts: Tensor, conditioning: Tensor) -> ConceptStep:
        """Normalise and project concept tokens [N, K, D] as the block does its text."""

    @abstractmethod
    def update(self, concepts: Tensor, outputs: Tensor, modulation: Any) -> Tensor:
        """Finish the block for concept tokens [N, K, D], given attention outputs [N, K, heads * d].

        Called for every block but the last one read.
        """

    def compared(self, outputs: Tensor) -> Tensor:
        """What the picture's attention outputs are compared with; SD3.5 normalises it."""
        return outputs


class ConceptAttention(ConceptReader):
    """Concept maps in the attention output space.

    Args:
        conditioning: the transformer's module that makes the modulation vector; the pooled text is
            the last argument of its call.
        embedder: the transformer's module that brings text tokens to its width.
        blocks: the joint blocks in forward order, from the first one to the last that is read.
        chosen: indices of those that are read.
        tokens: [K, text width], the encoded concepts.
    """

    def __init__(
        self,
        conditioning: nn.Module,
        embedder: nn.Module,
        blocks: Sequence[JointBlock],
        chosen: Sequence[int],
        tokens: Tensor,
    ):
        super().__init__(len(chosen))
        self.conditioning = conditioning
        self.embedder = embedder
        self.blocks = blocks
        self.chosen = frozenset(chosen)
        self.tokens = tokens
        # of the forward under way: modulation [N, D]; None while the maps are not wanted
        self._modulation: Tensor | None = None
        self._concepts = torch.empty(0)  # [N, K, D]

    def _attach(self, keep: Callable[[Any], None], add: Sink, wanted: Wanted) -> None:
        def begin(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            self._modulation = None
            if wanted():
                *others, pooled = args
                # forward(): past this hook, but not past those of offloading
                self._modulation = module.forward(*others, torch.zeros_like(pooled))
                concepts = self.embedder(self.tokens[None])
                self._concepts = concepts.expand(len(output), -1, -1)

        keep(self.conditioning.register_forward_hook(begin))
        for i, block in enumerate(self.blocks):
            self._attach_block(i, block, keep, add)

    def _attach_block(
        self, i: int, block: JointBlock, keep: Callable[[Any], None], add: Sink
    ) -> None:
        seen: dict[str, Any] = {}
        attention = block.attention

        def note(**found: Any) -> None:
            if self._modulation is not None:
                seen.update(found)

        def end(module: nn.Module, args: Any, output: Any) -> None:
            if self._modulation is None:
                return
            step = block.project(self._concepts, self._modulation)
            picture_keys = block.picture_heads(seen["keys"], seen["call"])
            outputs = F.scaled_dot_product_attention(
                step.queries,
                torch.cat([step.keys, picture_keys], dim=2),
                torch.cat([step.values, block.split_heads(seen["values"])], dim=2),
            )
            outputs = outputs.transpose(1, 2).flatten(2)  # [N, K, heads * d]
            if i in self.chosen:
                # the products are unscaled and grow with the width: never in bf16
                scores = block.compared(outputs).float() @ seen["outputs"].float().transpose(1, 2)
                add(scores.softmax(dim=1))
            if i + 1 < len(self.blocks):
                self._concepts = block.update(self._concepts, outputs, step.modulation)
            seen.clear()

        keep(
            attention.register_forward_pre_hook(
                lambda module, args, kwargs: note(call=kwargs), with_kwargs=True
            )
        )
        keep(output_of(attention.norm_k, lambda keys: note(keys=keys)))
        keep(output_of(attention.to_v, lambda values: note(values=values)))
        keep(
            attention.to_out[0].register_forward_pre_hook(
                lambda module, args: note(outputs=args[0])
            )
        )
        keep(block.block.register_forward_hook(end))


class JointWordAttention(ConceptReader):
    """One map: the share of a picture token's attention that falls on the prompt's own words.

    Args:
        blocks: the joint blocks that are read.
        words: [N] or [1], how many tokens of each text are the prompt's own.
    """

    def __init__(self, blocks: Sequence[JointBlock], words: Tensor):
        super().__init__(len(blocks))
        self.blocks = blocks
        self.words = words

    def _attach(self, keep: Callable[[Any], None], add: Sink, wanted: Wanted) -> None:
        for block in self.blocks:
            self._attach_block(block, keep, add, wanted)

    def _attach_block(
        self, block: JointBlock, keep: Callable[[Any], None], add: Sink, wanted: Wanted
    ) -> None:
        seen: dict[str, Any] = {}
        attention = block.attention

        def end(module: nn.Module, args: Any, output: Any) -> None:
            if wanted():
                queries, keys = (block.picture_heads(seen[n], seen["call"]) for n in ("q", "k"))
                text = block.text_heads(seen["text"])
                chosen = own_words(self.words, text.shape[2] + keys.shape[2])
                add(attention_share(queries, torch.cat([text, keys], dim=2), chosen))
            seen.clear()

        keep(
            attention.register_forward_pre_hook(
                lambda module, args, kwargs: seen.update(call=kwargs), with_kwargs=True
            )
        )
        keep(output_of(attention.norm_q, lambda normed: seen.update(q=normed)))
        keep(output_of(attention.norm_k, lambda normed: seen.update(k=normed)))
        keep(output_of(attention.norm_added_k, lambda normed: seen.update(text=normed)))
        keep(attention.register_forward_hook(end))
