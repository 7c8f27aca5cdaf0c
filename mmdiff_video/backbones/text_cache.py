"""Encoded prompts, each computed once."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from mmdiff_video.backbones.types import TextEmbedding

# Prompts kept encoded; 512 FLUX tokens in bf16 are 4 MB.
_SIZE = 64


class TextCache:
    """Keeps the most recently used prompts encoded.

    Args:
        encode: encodes one prompt, on its own, so that no result depends on a batch.
        state: what the encoders are like; when that changes, what they said before is forgotten.
    """

    def __init__(self, encode: Callable[[str], TextEmbedding], state: Callable[[], str]):
        self._encode = encode
        self._state = state
        self._kept_in = ""
        self._kept: OrderedDict[str, TextEmbedding] = OrderedDict()

    def __call__(self, prompts: Sequence[str]) -> TextEmbedding:
        """Encode prompts; row i belongs to prompt i."""
        if (state := self._state()) != self._kept_in:
            self._kept.clear()
            self._kept_in = state
        found: dict[str, TextEmbedding] = {}
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._kept:
                self._kept[prompt] = self._encode(prompt)
            self._kept.move_to_end(prompt)
            found[prompt] = self._kept[prompt]
        while len(self._kept) > _SIZE:
            self._kept.popitem(last=False)
        rows = [found[prompt] for prompt in prompts]
        return TextEmbedding(
            {name: torch.cat([row.tensors[name] for row in rows]) for name in rows[0].tensors},
            torch.cat([row.words for row in rows]),
        )
