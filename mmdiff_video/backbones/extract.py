"""What is read in one go, and reading it from clean latents."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from mmdiff_video.backbones.batching import for_row_chunks, incoming_bytes, rows_that_fit
from mmdiff_video.backbones.concepts.reader import check_concepts
from mmdiff_video.backbones.features import DiTFeatures, TapSpec
from mmdiff_video.backbones.noise import noised
from mmdiff_video.backbones.taps import resolve_taps, run_up_to, tapped
from mmdiff_video.backbones.types import TextEmbedding, check_timesteps
from mmdiff_video.errors import InputError

if TYPE_CHECKING:
    from mmdiff_video.backbones.base import Backbone


@dataclass(frozen=True)
class Reading:
    """What is to be read, resolved and checked.

    Attributes:
        taps: blocks whose outputs are kept, in forward order.
        timesteps: the set T.
        concepts: see :mod:`mmdiff_video.backbones.concepts.reader`; empty for none.
        concept_blocks: blocks whose concept maps are averaged, in forward order; empty for none.
    """

    taps: tuple[TapSpec, ...]
    timesteps: tuple[float, ...]
    concepts: tuple[str, ...] = ()
    concept_blocks: tuple[TapSpec, ...] = ()

    @classmethod
    def of(
        cls,
        backbone: "Backbone",
        taps: Sequence[str | int] | None,
        timesteps: Sequence[float] | None,
        concepts: Sequence[str] | None,
        concept_blocks: Sequence[str | int] | None,
    ) -> Self:
        """Resolve and check what is to be read; arguments as for :meth:`Backbone.extract`.

        Raises:
            InputError: what does not exist in this backbone, or comes twice.
        """
        names = check_concepts(concepts)
        stream = backbone.concept_stream
        blocks = [spec for spec in backbone.tap_specs() if spec.stream == stream] if names else []
        if names and concept_blocks is not None:
            blocks = resolve_taps(concept_blocks, blocks, stream)
            if not blocks:
                raise InputError("no concept blocks; give at least one, or none at all for all")
        times = backbone.defaults.timesteps if timesteps is None else timesteps
        return cls(
            taps=tuple(backbone.resolve_taps(taps)),
            timesteps=check_timesteps(times),
            concepts=names,
            concept_blocks=tuple(blocks),
        )

    @property
    def blocks(self) -> tuple[TapSpec, ...]:
        """All blocks that must run."""
        return self.taps + self.concept_blocks

    @property
    def concept_indices(self) -> tuple[int, ...]:
        """Positions of the concept blocks in their stream."""
        return tuple(spec.index for spec in self.concept_blocks)


def read_latent(
    backbone: "Backbone",
    x0: Tensor,
    eps: Tensor,
    text: TextEmbedding,
    reading: Reading,
    guidance: float | None,
    chunk: int | None,
) -> DiTFeatures:
    """Noise latents to each timestep and run them up to the last block that is read.

    Args:
        backbone: what is read.
        x0, eps: clean latents and noise, float32 [B, c, F, h, w] on the backbone's device.
        text: B rows.
        reading: what is read; at least one block.
        guidance, chunk: as for :meth:`Backbone.extract_latent`.
    """
    batch, count = len(x0), len(reading.timesteps)
    # One row for every (sample, timestep[, frame]), in that order.
    t = torch.tensor(reading.timesteps, dtype=torch.float32, device=x0.device)
    noisy = noised(x0[:, None], eps[:, None], t.reshape(1, -1, 1, 1, 1, 1))
    noisy = backbone.fold(noisy.flatten(0, 1))  # [N, c, F, h, w]
    per_time = len(noisy) // (batch * count)
    t_rows = t.repeat(batch).repeat_interleave(per_time)
    text_rows = torch.arange(batch, device=x0.device).repeat_interleave(count * per_time)

    rows, _, frames, *sides = noisy.shape
    grid = (frames, *(side // backbone.geometry.patch for side in sides))
    device = x0.device
    maps = {
        spec.name: torch.empty(rows, spec.width, *grid, dtype=backbone.dtype, device=device)
        for spec in reading.taps
    }
    concepts = torch.empty(rows, len(reading.concepts), *grid, device=device)
    modules = backbone.tap_modules(reading.taps)
    last = max(reading.blocks, key=backbone.tap_specs().index)  # in forward order
    (last_module,) = backbone.tap_modules([last]).values()

    def read(part: slice) -> None:
        words = text.rows(text_rows[part])

        def keep(name: str, tokens: Tensor) -> None:
            maps[name][part].flatten(2).copy_(tokens.transpose(1, 2))

        def keep_concepts(found: Tensor) -> None:
            concepts[part].flatten(2).copy_(found)

        def forward() -> None:
            backbone.velocity(noisy[part], t_rows[part], words, guidance)

        with ExitStack() as hooks:
            hooks.enter_context(tapped(modules, backbone.picture_tokens, keep))
            if reading.concepts:
                reader = backbone.concept_reader(reading.concepts, reading.concept_indices, words)
                hooks.enter_context(reader.attached(keep_concepts))
            run_up_to(backbone.pipeline.transformer, last_module, forward)

    if chunk is None:
        tokens = math.prod(grid) + backbone.defaults.text_tokens
        incoming = incoming_bytes(backbone.pipeline.transformer, device)
        chunk = rows_that_fit(tokens, last.width, backbone.dtype, device, incoming)
    chunk = min(chunk, backbone.chunk_limits.get(grid, chunk))
    if (fitted := for_row_chunks(rows, chunk, read)) < chunk:
        backbone.chunk_limits[grid] = fitted

    def unfolded(found: Tensor) -> Tensor:
        """[N, ...] -> [B, T, C, F, H, W]."""
        return backbone.unfold(found, batch * count).unflatten(0, (batch, count))

    return DiTFeatures(
        maps={name: unfolded(found) for name, found in maps.items()},
        timesteps=reading.timesteps,
        sigmas=reading.timesteps,
        latent=x0,
        untrained=backbone.untrained,
        concepts=unfolded(concepts).mean(dim=1) if reading.concepts else None,
    )
