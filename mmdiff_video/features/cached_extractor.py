"""Keep a frozen backbone's features on disk, so that a sample is run through it only once.

An entry of the :class:`FeatureCache` holds one sample: maps in bf16 or fp8, the latent and the
concept maps in float32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.concepts.reader import check_concepts
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.features.cache import Entry, FeatureCache, address_of
from mmdiff_video.features.cache_forms import CacheForm, cache_form


class CachedExtractor:
    """Stands in for ``Backbone.extract``, and asks the backbone only for samples not on disk.

    Maps pass through the cache's form whether they are fresh or cached, so that a warm cache
    changes nothing; they are given in the backbone's dtype, on its device.

    Args:
        backbone: what is asked.
        cache: where entries lie.
        form: number format of the maps: ``bf16``, or ``fp8`` for half the disk (see ``Fp8Form`` for
            what it costs in precision).

    Raises:
        InputError: an unknown form.
    """

    def __init__(self, backbone: Backbone, cache: FeatureCache, form: str = "bf16"):
        self.backbone = backbone
        self.cache = cache
        self.form = cache_form(form)

    @torch.no_grad()
    def extract(
        self,
        video: Tensor,
        prompt: str | Sequence[str] | None = None,
        taps: Sequence[str | int] | None = None,
        timesteps: Sequence[float] | None = None,
        *,
        keys: Sequence[str],
        seed: int = 0,
        chunk: int | None = None,
        concepts: Sequence[str] | None = None,
        concept_blocks: Sequence[str | int] | None = None,
    ) -> DiTFeatures:
        """Read clips; arguments, result and errors are those of :meth:`Backbone.extract`."""
        names = [spec.name for spec in self.backbone.resolve_taps(taps)]
        times = tuple(self.backbone.defaults.timesteps if timesteps is None else timesteps)
        if prompt is None:
            prompt = self.backbone.defaults.prompt
        prompts = [prompt] * len(keys) if isinstance(prompt, str) else list(prompt)
        if not len(video) == len(prompts) == len(keys):
            # let the backbone say what is wrong
            return self.backbone.extract(
                video, prompts, names, times, keys=keys, seed=seed, chunk=chunk
            )
        asked: dict[str, Any] = {}
        if words := check_concepts(concepts):
            asked = {"concepts": words, "concept_blocks": concept_blocks}
        also = asked if self.form.name == "bf16" else {**asked, "form": self.form.name}
        weights = self.backbone.fingerprint
        addresses = [
            entry_address(self.backbone, clip, names, times, text, seed, key, also, weights)
            for clip, text, key in zip(video, prompts, keys, strict=True)
        ]

        def read(missing: list[int]) -> list[Entry]:
            fresh = self.backbone.extract(
                video[missing],
                [prompts[i] for i in missing],
                names,
                times,
                keys=[keys[i] for i in missing],
                seed=seed,
                chunk=chunk,
                **asked,
            )
            return [_entry(fresh, row, self.form) for row in range(len(missing))]

        return self._features(self.cache.fetch(addresses, read), names, times)

    def _features(
        self, entries: Sequence[Entry], names: Sequence[str], times: tuple[float, ...]
    ) -> DiTFeatures:
        backbone = self.backbone
        rows = [
            {name: tensor.to(backbone.device) for name, tensor in entry.tensors.items()}
            for entry in entries
        ]

        def batch(name: str) -> Tensor:
            return torch.stack([row[name] for row in rows])

        return DiTFeatures(
            maps={
                name: torch.stack([self.form.unpack(name, row).to(backbone.dtype) for row in rows])
                for name in names
            },
            timesteps=times,
            sigmas=entries[0].sigmas,
            latent=batch("latent"),
            untrained=backbone.untrained,
            concepts=batch("concepts") if "concepts" in rows[0] else None,
        )


def entry_address(
    backbone: Backbone,
    clip: Tensor,
    taps: Sequence[str],
    timesteps: Sequence[float],
    prompt: str,
    seed: int,
    key: str,
    also: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> str:
    """Hash everything that the features of one clip [3, F, H, W] depend on.

    The pixels count too: another crop or decoder under the same key is another entry.

    Args:
        backbone, clip, taps, timesteps, prompt, seed, key: as for :meth:`Backbone.extract`.
        also: what is not asked for by default: concepts, another form.
        weights: the backbone's fingerprint, where the caller has just taken it.
    """
    unusual = {"vae": settings} if (settings := backbone.vae_settings) else {}
    return address_of(
        clip,
        {
            "backbone": weights or backbone.fingerprint,
            "dtype": str(backbone.dtype),
            "taps": list(taps),
            "timesteps": list(timesteps),
            "prompt": prompt,
            "text_tokens": backbone.defaults.text_tokens,
            "guidance": backbone.defaults.extract_guidance,
            "seed": seed,
            "key": key,
            **unusual,
            **(also or {}),
        },
    )


def entry_bytes(
    backbone: Backbone,
    taps: Sequence[str | int] | None = None,
    timesteps: Sequence[float] | None = None,
    *,
    frames: int,
    height: int,
    width: int,
    concepts: Sequence[str] | None = None,
    form: str = "bf16",
) -> int:
    """Bytes of tensors that one sample takes in the cache (its file has a few KB more).

    Args:
        backbone: what is tapped; nothing is computed.
        taps, timesteps, concepts: as for :meth:`Backbone.extract`.
        frames, height, width: size of the clips, in pixels.
        form: as for :class:`CachedExtractor`.
    """
    geometry = backbone.geometry
    places = math.prod(geometry.token_grid(frames, height, width))
    times = len(backbone.defaults.timesteps if timesteps is None else timesteps)
    packed = cache_form(form)
    maps = sum(packed.nbytes(times, s.width, places) for s in backbone.resolve_taps(taps))
    cells = math.prod(geometry.latent_grid(frames, height, width))
    return maps + 4 * (geometry.channels * cells + len(check_concepts(concepts)) * places)


def _entry(features: DiTFeatures, row: int, form: CacheForm) -> Entry:
    tensors = {"latent": features.latent[row].float()}
    for name, m in features.maps.items():
        tensors |= form.pack(name, m[row])
    if features.concepts is not None:
        tensors["concepts"] = features.concepts[row].float()
    return Entry(tensors, features.sigmas)
