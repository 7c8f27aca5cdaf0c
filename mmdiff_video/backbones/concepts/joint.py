"""Concept maps of transformers whose text and picture attend jointly (MMDiT: FLUX, SD3.5).

ConceptAttention (Helbling et al., 2025; paper Sec. 3.2). Concept tokens pass through the blocks
beside the text, on the text's own weights. They attend to the picture and to each other; nothing
attends to them, so that the picture stays what it was. In each block

    o_c = softmax(q_c [k_x, k_c]^T / sqrt(d)) [v_x, v_c]    (paper Eq. 3, which omits sqrt(d))
    map = softmax over concepts of o_x . o_c                 (Eq. 4)

with o_x the picture's own attention output, both before the output projection and over all heads
at once. The maps are averaged over the chosen blocks. What a family does otherwise is said by its
:class:`JointBlock` and by the arguments of :class:`ConceptAttention`.
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

    The text's projections, norms and MLP have the names that FLUX and SD3 share.

    Attributes:
        block: the module.
        attention: its attention.
    """

    def __init__(self, block: Any):
        self.block = block
        self.attention: Any = block.attn

    @abstractmethod
    def picture_heads(self, normed: Tensor, call: dict[str, Any]) -> Tensor:
        """Turn the picture's queries or keys into [N, heads, L, d], positions applied.

        Args:
            normed: as their last module puts them out, see :meth:`end_of`.
            call: keyword arguments of the attention's call, for the rotary embedding.
        """

    @abstractmethod
    def text_heads(self, normed: Tensor) -> Tensor:
        """Turn the text's keys, as put out, into [N, heads, L, d]; text has no position."""

    def end_of(self, norm: str, projection: str) -> nn.Module:
        """Look up the module after which queries or keys are done: the norm, where there is one."""
        module = getattr(self.attention, norm)
        return getattr(self.attention, projection) if module is None else module

    def split_heads(self, tokens: Tensor) -> Tensor:
        """[N, L, heads * d] -> [N, heads, L, d]."""
        return tokens.unflatten(2, (self.attention.heads, -1)).transpose(1, 2)

    def context(self, concepts: Tensor, conditioning: Tensor) -> tuple[Tensor, Any]:
        """Normalise concept tokens [N, K, D] as the block does its text.

        Returns:
            them, and what :meth:`update` needs again.
        """
        normed, *modulation = self.block.norm1_context(concepts, emb=conditioning)
        return normed, modulation

    def project(self, concepts: Tensor, conditioning: Tensor) -> ConceptStep:
        """Normalise and project concept tokens [N, K, D] with the text weights."""
        normed, modulation = self.context(concepts, conditioning)
        attention = self.attention

        def heads(projection: nn.Module, norm: nn.Module | None) -> Tensor:
            split = self.split_heads(projection(normed))
            return split if norm is None else norm(split)

        return ConceptStep(
            queries=heads(attention.add_q_proj, attention.norm_added_q),
            keys=heads(attention.add_k_proj, attention.norm_added_k),
            values=heads(attention.add_v_proj, None),
            modulation=modulation,
        )

    def update(self, concepts: Tensor, outputs: Tensor, modulation: Any) -> Tensor:
        """Finish the block for concept tokens [N, K, D]: output projection, then the MLP.

        Called for every block but the last one read.

        Args:
            concepts: as they came into the block.
            outputs: of their attention, [N, K, heads * d].
            modulation: of :meth:`context`.
        """
        gate, mlp_shift, mlp_scale, mlp_gate = (m[:, None] for m in modulation)
        concepts = concepts + gate * self.attention.to_add_out(outputs)
        normed = self.block.norm2_context(concepts) * (1 + mlp_scale) + mlp_shift
        return concepts + mlp_gate * self.block.ff_context(normed)

    def watch(self, keep: Callable[[Any], None], note: Callable[..., None]) -> None:
        """Register the hooks on the block's own attention that :meth:`compared` needs.

        Args:
            keep: takes each hook's handle.
            note: takes what was seen, by keyword: ``call``, ``keys``, ``values``, ``outputs``, ...
        """
        attention = self.attention
        keep(
            attention.register_forward_pre_hook(
                lambda module, args, kwargs: note(call=kwargs), with_kwargs=True
            )
        )
        keep(output_of(self.end_of("norm_k", "to_k"), lambda keys: note(keys=keys)))
        keep(output_of(attention.to_v, lambda values: note(values=values)))
        keep(
            attention.to_out[0].register_forward_pre_hook(
                lambda module, args: note(outputs=args[0])
            )
        )

    def compared(
        self, outputs: Tensor, keys: Tensor, values: Tensor, seen: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Say which vectors of the concepts and of the picture are multiplied.

        Args:
            outputs: o_c of the concepts, [N, K, heads * d].
            keys, values: of concepts and picture together, [N, heads, K + L, d].
            seen: what :meth:`watch` noted.

        Returns:
            [N, K, D] and [N, L, D].
        """
        return outputs, seen["outputs"]


#: (the module, its positional arguments, its output) -> the modulation vector [N, D] of concepts.
Modulation = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]


def without_pooled_text(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Modulate concepts as a prompt whose pooled vector, the last argument, is zero."""
    *others, pooled = args
    # forward(): past our own hook, but not past those of offloading
    return module.forward(*others, torch.zeros_like(pooled))


def as_the_text(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Modulate concepts as the prompt of the forward."""
    return output


class ConceptAttention(ConceptReader):
    """Concept maps in the attention output space.

    Args:
        conditioning: the transformer's module that makes the modulation vector.
        embedder: the transformer's module that brings text tokens to its width.
        blocks: the joint blocks in forward order, from the first one to the last that is read.
        chosen: indices of those that are read.
        tokens: [K, text width], the encoded concepts.
        modulation: what concepts are modulated by.
        unmapped: this many tokens more than concepts come first, take part in the attention, and
            have no map.
    """

    def __init__(
        self,
        conditioning: nn.Module,
        embedder: nn.Module,
        blocks: Sequence[JointBlock],
        chosen: Sequence[int],
        tokens: Tensor,
        modulation: Modulation,
        unmapped: int = 0,
    ):
        super().__init__(len(chosen))
        self.conditioning = conditioning
        self.embedder = embedder
        self.blocks = blocks
        self.chosen = frozenset(chosen)
        self.tokens = tokens
        self.modulation = modulation
        self.unmapped = unmapped
        # of the forward under way: modulation [N, D]; None while the maps are not wanted
        self._modulation: Tensor | None = None
        self._concepts = torch.empty(0)  # [N, K, D]

    def _attach(self, keep: Callable[[Any], None], add: Sink, wanted: Wanted) -> None:
        def begin(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            self._modulation = None
            if wanted():
                self._modulation = self.modulation(module, args, output)
                concepts = self.embedder(self.tokens[None])
                self._concepts = concepts.expand(len(output), -1, -1)

        keep(self.conditioning.register_forward_hook(begin))
        for i, block in enumerate(self.blocks):
            self._attach_block(i, block, keep, add)

    def _attach_block(
        self, i: int, block: JointBlock, keep: Callable[[Any], None], add: Sink
    ) -> None:
        seen: dict[str, Any] = {}

        def note(**found: Any) -> None:
            if self._modulation is not None:
                seen.update(found)

        def end(module: nn.Module, args: Any, output: Any) -> None:
            if self._modulation is None:
                return
            step = block.project(self._concepts, self._modulation)
            picture_keys = block.picture_heads(seen["keys"], seen["call"])
            keys = torch.cat([step.keys, picture_keys], dim=2)
            values = torch.cat([step.values, block.split_heads(seen["values"])], dim=2)
            outputs = F.scaled_dot_product_attention(step.queries, keys, values)
            outputs = outputs.transpose(1, 2).flatten(2)  # [N, K, heads * d]
            if i in self.chosen:
                concepts, picture = block.compared(outputs, keys, values, seen)
                # the products are unscaled and grow with the width: never in bf16
                scores = concepts[:, self.unmapped :].float() @ picture.float().transpose(1, 2)
                add(scores.softmax(dim=1))
            if i + 1 < len(self.blocks):
                self._concepts = block.update(self._concepts, outputs, step.modulation)
            seen.clear()

        block.watch(keep, note)
        keep(block.block.register_forward_hook(end))


class JointWordAttention(ConceptReader):
    """One map: the share of a picture token's attention that falls on the prompt's own words.

    Args:
        blocks: the joint blocks that are read.
        words: bool [N, text tokens] or [1, text tokens], which tokens are the prompt's own.
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
                chosen = F.pad(self.words, (0, keys.shape[2]))
                add(attention_share(queries, torch.cat([text, keys], dim=2), chosen))
            seen.clear()

        keep(
            attention.register_forward_pre_hook(
                lambda module, args, kwargs: seen.update(call=kwargs), with_kwargs=True
            )
        )
        for name, norm, projection in (
            ("q", "norm_q", "to_q"),
            ("k", "norm_k", "to_k"),
            ("text", "norm_added_k", "add_k_proj"),
        ):
            keep(
                output_of(
                    block.end_of(norm, projection),
                    lambda normed, name=name: seen.update({name: normed}),
                )
            )
        keep(attention.register_forward_hook(end))
