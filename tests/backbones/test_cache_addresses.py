"""What of a loaded backbone tells cached features apart."""

from pathlib import Path

import pytest
import torch

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import CachedExtractor


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", ["wan", "flux"])
def test_tiled_encodings_have_entries_of_their_own(
    tiny: dict[str, Backbone], tiny_folders: dict[str, Path], tmp_path: Path, family: str
) -> None:
    tiled = load_backbone(tiny_folders[family], device="cpu", vae_tiling=True)
    if family == "wan":
        tiled.pipeline.vae.enable_tiling(32, 32, 16, 16)
    cache = FeatureCache(tmp_path, 1.0)
    whole = CachedExtractor(tiny[family], cache).extract(picture(), taps=[], keys=["a"]).latent
    found = CachedExtractor(tiled, cache).extract(picture(), taps=[], keys=["a"]).latent
    assert torch.equal(found, tiled.encode(picture()))
    assert not torch.allclose(found, whole, atol=1e-3)
    if family == "wan":  # other tiles, other seams
        tiled.pipeline.vae.enable_tiling(48, 48, 32, 32)
        found = CachedExtractor(tiled, cache).extract(picture(), taps=[], keys=["a"]).latent
        assert torch.equal(found, tiled.encode(picture()))
    CachedExtractor(tiny[family], cache).extract(picture(), taps=[], keys=["a"])
    assert cache.stats.hits == 1


def test_encodings_of_a_rounded_vae_have_entries_of_their_own(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    # on CUDA Wan's VAE alone stays in float32
    mixed = load_backbone(tiny_folders["wan"], device="cpu", dtype=torch.bfloat16)
    rounded = mixed.encode(picture())
    cache = FeatureCache(tmp_path, 1.0)
    CachedExtractor(mixed, cache).extract(picture(), taps=[], keys=["a"])
    mixed.pipeline.vae.to(torch.float32)
    found = CachedExtractor(mixed, cache).extract(picture(), taps=[], keys=["a"]).latent
    assert torch.equal(found, mixed.encode(picture()))
    assert not torch.equal(found, rounded)
