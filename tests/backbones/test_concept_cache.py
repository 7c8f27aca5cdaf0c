from pathlib import Path
from typing import Any

import pytest
import torch
from concept_reading import CONCEPT_ROWS, CONCEPTS

from mmdiff_video.backbones import Backbone
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS
from mmdiff_video.errors import InputError
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import CachedExtractor, entry_bytes


@pytest.fixture(params=CONCEPT_ROWS)
def backbone(request: pytest.FixtureRequest, tiny: dict[str, Backbone]) -> Backbone:
    """One member of each family whose concept maps can be read."""
    return tiny[request.param]


def clip() -> torch.Tensor:
    return torch.rand(2, 3, 1, 32, 48, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("form", ["bf16", "fp8"])
def test_cached_concepts_are_the_backbones(backbone: Backbone, tmp_path: Path, form: str) -> None:
    cached = CachedExtractor(backbone, FeatureCache(tmp_path, 1.0), form)
    arguments: dict[str, Any] = {"timesteps": [0.5], "keys": ["a", "b"], "concepts": CONCEPTS}
    fresh = cached.extract(clip(), **arguments)
    again = cached.extract(clip(), **arguments)
    direct = backbone.extract(clip(), **arguments)
    assert (cached.cache.stats.misses, cached.cache.stats.hits) == (2, 2)
    assert fresh.concepts is not None
    assert again.concepts is not None
    assert torch.equal(fresh.concepts, again.concepts)
    assert direct.concepts is not None
    assert torch.equal(fresh.concepts, direct.concepts)
    assert torch.equal(fresh.latent, direct.latent)
    for name, m in direct.maps.items():
        assert torch.equal(fresh.maps[name], again.maps[name])
        error = (fresh.maps[name] - m).norm() / m.norm()
        assert 0 < error < {"bf16": 2**-8, "fp8": 2**-4}[form]
    size = next(tmp_path.glob("??/*.safetensors")).stat().st_size
    told = entry_bytes(
        backbone, None, [0.5], frames=1, height=32, width=48, concepts=CONCEPTS, form=form
    )
    assert 0 <= size - told < 4096


def test_what_is_asked_for_has_an_entry_of_its_own(
    tiny: dict[str, Backbone], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path, 1.0)
    cached = CachedExtractor(tiny["flux"], cache)
    arguments: dict[str, Any] = {"taps": ["double.0"], "timesteps": [0.5], "keys": ["a"]}
    plain = cached.extract(clip()[:1], **arguments)
    assert plain.concepts is None
    asked: list[dict[str, Any]] = [
        {"concepts": CONCEPTS},
        {"concepts": CONCEPTS[::-1]},
        {"concepts": [PROMPT_WORDS]},
        {"concepts": CONCEPTS, "concept_blocks": ["double.0"]},
    ]
    for i, changes in enumerate(asked):
        found = cached.extract(clip()[:1], **arguments, **changes).concepts
        assert found is not None
        assert found.shape[1] == len(changes["concepts"])
        assert cache.stats.misses == i + 2
    CachedExtractor(tiny["flux"], cache, "fp8").extract(clip()[:1], **arguments)
    assert (cache.stats.misses, cache.stats.hits) == (6, 0)


def test_no_concepts_is_what_it_was_before_there_were_any(
    tiny: dict[str, Backbone], tmp_path: Path
) -> None:
    cached = CachedExtractor(tiny["flux"], FeatureCache(tmp_path, 1.0))
    for concepts in (None, []):
        cached.extract(clip(), timesteps=[0.5], keys=["a", "b"], concepts=concepts)
    assert (cached.cache.stats.misses, cached.cache.stats.hits) == (2, 2)


def test_bad_concepts_are_refused_before_anything_is_read(
    tiny: dict[str, Backbone], tmp_path: Path
) -> None:
    cached = CachedExtractor(tiny["flux"], FeatureCache(tmp_path, 1.0))
    with pytest.raises(InputError, match="one concept alone"):
        cached.extract(clip(), keys=["a", "b"], concepts=["object"])
    with pytest.raises(InputError, match="cache form"):
        CachedExtractor(tiny["flux"], FeatureCache(tmp_path, 1.0), "int8")
