"""Extraction: what is to be read, resolved and checked, and reading it from clean latents."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mmdiff_video.backbones.adapter import Adapter
from mmdiff_video.backbones.batching import for_row_chunks, incoming_bytes, rows_that_fit
from mmdiff_video.backbones.concepts.reader import check_concepts
from mmdiff_video.backbones.features import DiTFeatures, TapSpec
from mmdiff_video.backbones.taps import resolve_taps, run_up_to, tapped
from mmdiff_video.backbones.types import BackboneDefaults, TextEmbedding, check_timesteps
from mmdiff_video.errors import InputError


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
        adapter: Adapter,
        defaults: BackboneDefaults,
        taps: Sequence[str | int] | None,
        timesteps: Sequence[float] | None,
        concepts: Sequence[str] | None,
        concept_blocks: Sequence[str | int] | None,
    ) -> Self:
        """Resolve and check what is to be read; arguments as for :meth:`Backbone.extract`.

        Raises:
            InputError: what does not exist in this model, or comes twice.
        """
        layout, names = adapter.layout, check_concepts(concepts)
        return cls(
            taps=tuple(
                resolve_taps(
                    defaults.taps if taps is None else taps, layout.taps, layout.default_stream
                )
            ),
            timesteps=check_timesteps(defaults.timesteps if timesteps is None else timesteps),
            concepts=names,
            concept_blocks=tuple(_concept_blocks(adapter, concept_blocks)) if names else (),
        )

    @property
    def blocks(self) -> tuple[TapSpec, ...]:
        """All blocks that must run."""
        return self.taps + self.concept_blocks

    @property
    def concept_indices(self) -> tuple[int, ...]:
        """Positions of the concept blocks in their stream."""
        return tuple(spec.index for spec in self.concept_blocks)


def _concept_blocks(adapter: Adapter, chosen: Sequence[str | int] | None) -> list[TapSpec]:
    family = adapter.family
    if family.concepts is None:
        raise InputError(f"{family.name} models have no concept maps: leave the concepts out")
    stream = family.concepts.stream
    blocks = [spec for spec in adapter.layout.taps if spec.stream == stream]
    if chosen is None:
        return blocks
    if not (blocks := resolve_taps(chosen, blocks, stream)):
        raise InputError("no concept blocks: name at least one, or give no list to read all")
    return blocks


def read_latent(
    adapter: Adapter,
    x0: Tensor,
    eps: Tensor,
    text: TextEmbedding,
    reading: Reading,
    guidance: float | None,
    chunk: int | None,
) -> DiTFeatures:
    """Noise latents to each timestep and run them up to the last block that is read.

    Args:
        adapter: the loaded pipeline.
        x0, eps: clean latents and noise, float32 [B, c, F, h, w] on the adapter's device.
        text: B rows.
        reading: what is read; at least one block.
        guidance, chunk: as for :meth:`Backbone.extract_latent`.
    """
    batch, count = len(x0), len(reading.timesteps)
    # One row for every (sample, timestep[, frame]), in that order.
    t = torch.tensor(reading.timesteps, dtype=torch.float32, device=x0.device)
    noisy = adapter.family.noised(x0[:, None], eps[:, None], t.reshape(1, -1, 1, 1, 1, 1))
    noisy = adapter.fold(noisy.flatten(0, 1))  # [N, c, F, h, w]
    per_time = len(noisy) // (batch * count)
    t_rows = t.repeat(batch).repeat_interleave(per_time)
    text_rows = torch.arange(batch, device=x0.device).repeat_interleave(count * per_time)

    rows, _, frames, *sides = noisy.shape
    grid = (frames, *(side // adapter.geometry.patch for side in sides))
    device = x0.device
    maps = {
        spec.name: torch.empty(rows, spec.width, *grid, dtype=adapter.dtype, device=device)
        for spec in reading.taps
    }
    concepts = torch.empty(rows, len(reading.concepts), *grid, device=device)
    modules, specs = adapter.modules(reading.taps), {spec.name: spec for spec in reading.taps}
    last = max(reading.blocks, key=adapter.layout.taps.index)  # in forward order
    (last_module,) = adapter.modules([last]).values()

    def read(part: slice) -> None:
        words = text.rows(text_rows[part])

        def keep(name: str, output: Any) -> None:
            tokens = adapter.picture_tokens(specs[name], output, math.prod(grid))
            maps[name][part].flatten(2).copy_(tokens.transpose(1, 2))

        def keep_concepts(found: Tensor) -> None:
            concepts[part].flatten(2).copy_(found)

        def forward() -> None:
            adapter.velocity(noisy[part], t_rows[part], words, guidance)

        with ExitStack() as hooks:
            hooks.enter_context(tapped(modules, keep))
            if reading.concepts:
                reader = adapter.concept_reader(reading.concepts, reading.concept_indices, words)
                hooks.enter_context(reader.attached(keep_concepts))
            run_up_to(adapter.pipeline.transformer, last_module, forward)

    if chunk is None:
        tokens = math.prod(grid) + adapter.text_tokens
        incoming = incoming_bytes(adapter.pipeline.transformer, device)
        chunk = rows_that_fit(tokens, last.width, adapter.dtype, device, incoming)
    chunk = min(chunk, adapter.chunk_limits.get(grid, chunk))
    if (fitted := for_row_chunks(rows, chunk, read)) < chunk:
        adapter.chunk_limits[grid] = fitted

    def unfolded(found: Tensor) -> Tensor:
        """[N, ...] -> [B, T, C, F, H, W]."""
        return adapter.unfold(found, batch * count).unflatten(0, (batch, count))

    return DiTFeatures(
        maps={name: unfolded(found) for name, found in maps.items()},
        timesteps=reading.timesteps,
        sigmas=reading.timesteps,
        latent=x0,
        untrained=adapter.untrained,
        concepts=unfolded(concepts).mean(dim=1) if reading.concepts else None,
    )
