"""Concept maps of transformers whose text enters by cross-attention (Wan).

There the text tokens have no attention output of their own, so a map is the block's own
cross-attention, with the concepts in the place of the prompt. For head h and picture token i

    a_h[c, i] = softmax over concepts of  q_h[i] . k_h[c] / sqrt(d)

with q the block's queries of the picture and k its key projection of the encoded concept (mean over
the concept's tokens). The map is the mean of a_h over the heads and the chosen blocks. The video is
computed from the prompt, as ever.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.concepts.reader import (
    ConceptReader,
    Sink,
    Wanted,
    attention_share,
    output_of,
)


class CrossAttentionConcepts(ConceptReader):
    """Concept maps from cross-attention.

    Args:
        attentions: cross-attention modules of the chosen blocks, with ``heads``, ``norm_q``,
            ``norm_k`` and ``to_k``.
        embedder: the transformer's module that brings text tokens to its width.
        concepts: for each concept its encoded tokens, [tokens, text width].
    """

    def __init__(self, attentions: Sequence[Any], embedder: nn.Module, concepts: Sequence[Tensor]):
        super().__init__(len(attentions))
        self.attentions = attentions
        self.embedder = embedder
        self.lengths = [len(tokens) for tokens in concepts]
        self.tokens = torch.cat(list(concepts))[None]  # [1, all tokens, text width]

    def _attach(self, keep: Callable[[Any], None], add: Sink, wanted: Wanted) -> None:
        def read(attention: Any, queries: Tensor) -> None:
            if wanted():
                add(_maps(queries, self._keys(attention), attention.heads))

        for attention in self.attentions:
            keep(
                output_of(
                    attention.norm_q, lambda queries, attention=attention: read(attention, queries)
                )
            )

    def _keys(self, attention: Any) -> Tensor:
        """[K, heads * d]; the same in every forward, and too cheap to be worth keeping."""
        keys = attention.norm_k(attention.to_k(self.embedder(self.tokens)))[0]
        return torch.stack([part.mean(dim=0) for part in keys.split(self.lengths)])


def _maps(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """[N, L, heads * d] and [K, heads * d] -> float32 [N, K, L]."""
    q = queries.float().unflatten(2, (heads, -1)).transpose(1, 2)  # [N, heads, L, d]
    k = keys.float().unflatten(1, (heads, -1)).permute(1, 2, 0)  # [heads, d, K]
    return (q @ k * q.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=1).transpose(1, 2)


class CrossWordAttention(ConceptReader):
    """One map: the share of a picture token's cross-attention that falls on the prompt's own words.

    Args:
        attentions: as for :class:`CrossAttentionConcepts`.
        words: bool [N, text tokens] or [1, text tokens], which tokens are the prompt's own.
    """

    def __init__(self, attentions: Sequence[Any], words: Tensor):
        super().__init__(len(attentions))
        self.attentions = attentions
        self.words = words

    def _attach(self, keep: Callable[[Any], None], add: Sink, wanted: Wanted) -> None:
        def heads_first(attention: Any, tokens: Tensor) -> Tensor:
            return tokens.unflatten(2, (attention.heads, -1)).transpose(1, 2)

        def attach(attention: Any) -> None:
            queries: Tensor | None = None

            def note(normed: Tensor) -> None:
                nonlocal queries
                queries = normed if wanted() else None

            def read(keys: Tensor) -> None:
                nonlocal queries
                if queries is not None:
                    q, k = (heads_first(attention, x) for x in (queries, keys))
                    queries = None  # or those of all blocks would be held at once
                    add(attention_share(q, k, self.words))

            keep(output_of(attention.norm_q, note))
            # the keys are normed after the queries
            keep(output_of(attention.norm_k, read))

        for attention in self.attentions:
            attach(attention)
