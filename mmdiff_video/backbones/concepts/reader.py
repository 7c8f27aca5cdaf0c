"""Concept maps: where in a picture the words of a list lie, read from a transformer's attention.

Transformers whose text and picture attend jointly (FLUX, SD 3) are read by ``joint.py``, those
whose text enters by cross-attention (Wan) by ``cross.py``. This module holds what both share.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiff_video.errors import InputError

#: In place of a concept list: no concepts, but the share of its attention that every picture token
#: pays to the prompt's own words, one map. The paper's ablation "+ cross-attention maps".
PROMPT_WORDS = "<prompt>"

Sink = Callable[[Tensor], None]
Wanted = Callable[[], bool]


def check_concepts(concepts: Sequence[str] | None) -> tuple[str, ...]:
    """Return the concepts without surrounding blanks; nothing for None.

    Raises:
        InputError: one string, an empty or repeated concept, a single one (its softmax is 1
            everywhere), or :data:`PROMPT_WORDS` among others.
    """
    if isinstance(concepts, str):
        raise InputError(f"concepts must be a list such as ['{concepts}', 'background']")
    names = tuple(str(concept).strip() for concept in concepts or ())
    if PROMPT_WORDS in names:
        if len(names) > 1:
            raise InputError(f"'{PROMPT_WORDS}' stands alone, without other concepts")
        return names
    if "" in names:
        raise InputError("a concept is empty; give words such as object, background")
    if len(set(names)) < len(names):
        raise InputError(f"concepts {', '.join(names)} contain one twice")
    if len(names) == 1:
        raise InputError(
            f"one concept alone ('{names[0]}') covers everything; give what it stands against too,"
            " for instance background"
        )
    return names


class ConceptReader(ABC):
    """Reads maps over the picture tokens from chosen blocks, by hooks that change nothing.

    Args:
        chosen: number of blocks whose maps are averaged.
    """

    def __init__(self, chosen: int):
        self._chosen = chosen
        self._sum = torch.zeros(())
        self._seen = 0

    @contextmanager
    def attached(self, sink: Sink, wanted: Wanted = lambda: True) -> Iterator[None]:
        """While open, hand every forward's maps to ``sink``, right after the last chosen block.

        Args:
            sink: takes float32 [N, K, L]: N rows of the forward, K maps, L picture tokens.
            wanted: asked during each forward; where it says False, nothing is read.
        """

        def add(maps: Tensor) -> None:
            self._sum = self._sum + maps if self._seen else maps
            self._seen += 1
            if self._seen == self._chosen:
                sink(self._sum / self._seen)
                self._seen = 0

        handles: list[Any] = []
        self._seen = 0
        try:
            self._attach(handles.append, add, wanted)
            yield
        finally:
            for handle in handles:
                handle.remove()

    @abstractmethod
    def _attach(self, keep: Callable[[Any], None], add: Sink, wanted: Wanted) -> None:
        """Register the hooks.

        Args:
            keep: takes each hook's handle.
            add: takes the maps of each chosen block, float32 [N, K, L], in forward order.
            wanted: as for :meth:`attached`.
        """


def attention_share(queries: Tensor, keys: Tensor, chosen: Tensor) -> Tensor:
    """Share of every query's attention that falls on chosen keys, averaged over the heads.

    The attention itself is not needed, so it is never held: a value of 1 at the chosen keys and 0
    elsewhere makes any attention kernel return the share.

    Args:
        queries: [N, heads, L, d].
        keys: [N, heads, S, d].
        chosen: bool, [N, S] or [1, S].

    Returns:
        float32 [N, 1, L] in [0, 1].
    """
    values = F.pad(chosen.to(queries.dtype)[:, None, :, None], (0, queries.shape[-1] - 1))
    shares = F.scaled_dot_product_attention(queries, keys, values.expand_as(keys).contiguous())
    return shares[..., 0].float().mean(dim=1, keepdim=True)


def output_of(module: nn.Module, take: Sink) -> Any:
    """Hand every output of a module to ``take``; returns the hook's handle."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        take(output)  # returning None leaves the output as it is

    return module.register_forward_hook(hook)
