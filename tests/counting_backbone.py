"""A stand-in for a backbone behind a feature cache, and what tests of both sides share."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.features import DiTFeatures, TapSpec
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.backbones.types import LatentGeometry
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import CachedExtractor

SPECS = [TapSpec("block.0", "block", 0, 6), TapSpec("block.1", "block", 1, 10)]


class CountingBackbone:
    """Features that depend on everything a backbone's do; counts the samples it is asked for."""

    geometry = LatentGeometry(channels=3, time_stride=4, space_stride=8, patch=2, is_video=True)
    device = torch.device("cpu")

    def __init__(
        self,
        fingerprint: str = "weights",
        dtype: torch.dtype = torch.float32,
        vae_settings: dict[str, Any] | None = None,
        **defaults: Any,
    ):
        self.defaults = SimpleNamespace(
            **{
                "taps": ("block.0", "block.1"),
                "timesteps": (0.7, 0.1),
                "prompt": "a room",
                "text_tokens": 8,
                "extract_guidance": None,
                **defaults,
            }
        )
        self.fingerprint = fingerprint
        self.dtype = dtype
        self.vae_settings = vae_settings or {}
        self.untrained = True
        self.asked: list[str] = []

    def resolve_taps(self, taps: Sequence[str | int] | None = None) -> list[TapSpec]:
        wanted = self.defaults.taps if taps is None else taps
        return [s for s in SPECS if s.name in wanted or s.index in wanted]

    def extract(
        self, video, prompt=None, taps=None, timesteps=None, *, keys, seed=0, chunk=None
    ) -> DiTFeatures:
        assert len(video) == len(prompt) == len(keys)
        self.asked += keys
        grid = self.geometry.token_grid(*video.shape[2:])
        latent_grid = self.geometry.latent_grid(*video.shape[2:])
        names = [f"{key}/{text}/{self.fingerprint}" for key, text in zip(keys, prompt, strict=True)]
        level = video.mean((1, 2, 3, 4))

        def draw(name: str, *shape: int) -> Tensor:
            noise = keyed_noise([f"{name}/{n}" for n in names], seed, shape)
            return noise + level.reshape(-1, *[1] * len(shape))

        return DiTFeatures(
            maps={
                s.name: torch.stack(
                    [draw(f"{s.name}/{t}", s.width, *grid) for t in timesteps], 1
                ).to(self.dtype)
                for s in self.resolve_taps(taps)
            },
            timesteps=tuple(timesteps),
            sigmas=tuple(timesteps),
            latent=draw("latent", self.geometry.channels, *latent_grid),
            untrained=self.untrained,
        )


def extractor(
    root: Path, backbone: CountingBackbone | None = None, budget_gb: float = 1.0
) -> CachedExtractor:
    return CachedExtractor(
        cast(Backbone, backbone or CountingBackbone()), FeatureCache(root, budget_gb=budget_gb)
    )


def clips(count: int = 3) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 5, 32, 48, generator=generator), [f"clip-{i}" for i in range(count)]


def assert_equal(a: DiTFeatures, b: DiTFeatures) -> None:
    assert (a.timesteps, a.sigmas, a.untrained) == (b.timesteps, b.sigmas, b.untrained)
    assert a.maps.keys() == b.maps.keys()
    for name in a.maps:
        assert a.maps[name].dtype == b.maps[name].dtype
        assert torch.equal(a.maps[name], b.maps[name]), name
    assert torch.equal(a.latent, b.latent)


def entries(root: Path) -> list[Path]:
    return sorted(root.glob("??/*.safetensors"))
