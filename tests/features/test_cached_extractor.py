"""Cached features are the backbone's, and an entry is known by all that they depend on."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from counting_backbone import CountingBackbone, assert_equal, clips, entries, extractor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.features.cached_extractor import entry_address, entry_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cached_features_are_the_fresh_ones(tmp_path: Path, dtype: torch.dtype):
    video, keys = clips()
    backbone = CountingBackbone(dtype=dtype)
    cached = extractor(tmp_path, backbone)
    fresh = cached.extract(video, keys=keys)
    again = cached.extract(video, keys=keys)
    assert backbone.asked == keys
    assert_equal(fresh, again)
    assert fresh.maps["block.0"].dtype == dtype
    assert fresh.maps["block.1"].shape == (3, 2, 10, 2, 2, 3)
    assert (cached.cache.stats.hits, cached.cache.stats.misses) == (3, 3)


def test_cached_features_are_the_backbones_to_bf16(tmp_path: Path):
    video, keys = clips()
    direct = CountingBackbone().extract(video, ["a room"] * 3, None, (0.7, 0.1), keys=keys)
    cached = extractor(tmp_path).extract(video, keys=keys)
    assert torch.equal(cached.latent, direct.latent)
    for name, exact in direct.maps.items():
        torch.testing.assert_close(cached.maps[name], exact, rtol=2**-8, atol=0)
        assert not torch.equal(cached.maps[name], exact)


def test_only_missing_samples_are_extracted_and_all_come_back_in_order(tmp_path: Path):
    video, keys = clips(4)
    extractor(tmp_path).extract(video[[1, 3]], keys=[keys[1], keys[3]])
    backbone = CountingBackbone()
    mixed = extractor(tmp_path, backbone).extract(video, keys=keys)
    assert backbone.asked == ["clip-0", "clip-2"]
    assert_equal(mixed, extractor(tmp_path / "empty").extract(video, keys=keys))


def test_each_prompt_has_its_own_entry(tmp_path: Path):
    video, keys = clips(2)
    backbone = CountingBackbone()
    cached = extractor(tmp_path, backbone)
    cached.extract(video, "a room", keys=keys)
    cached.extract(video, ["a room", "a street"], keys=keys)
    assert backbone.asked == ["clip-0", "clip-1", "clip-1"]


def test_every_ingredient_changes_the_address():
    video, _ = clips(1)
    flipped = video[0].clone()
    flipped[0, 0, 0, 0] += 1e-6

    plain: dict[str, Any] = {
        "backbone": CountingBackbone(),
        "clip": video[0],
        "taps": ["block.0"],
        "timesteps": (0.7, 0.1),
        "prompt": "a room",
        "seed": 0,
        "key": "clip",
    }
    changes: list[dict[str, Any]] = [
        {},
        {"backbone": CountingBackbone("other weights")},
        {"backbone": CountingBackbone(dtype=torch.bfloat16)},
        {"backbone": CountingBackbone(vae_settings={"tile_sample_min_size": 256})},
        {"backbone": CountingBackbone(vae_settings={"tile_sample_min_size": 512})},
        {"backbone": CountingBackbone(vae_settings={"dtype": "torch.bfloat16"})},
        {"backbone": CountingBackbone(text_tokens=16)},
        {"backbone": CountingBackbone(extract_guidance=3.5)},
        {"clip": flipped},
        {"clip": video[0].reshape(3, 5, 48, 32)},
        {"taps": ["block.1"]},
        {"taps": ["block.0", "block.1"]},
        {"timesteps": (0.1, 0.7)},
        {"timesteps": (0.7,)},
        {"prompt": "a street"},
        {"seed": 1},
        {"key": "clap"},
    ]
    addresses = {entry_address(**(plain | change)) for change in changes}
    assert len(addresses) == len(changes)
    assert entry_address(**(plain | {"clip": video[0].clone()})) in addresses


def test_entries_of_earlier_versions_are_found():
    clip = torch.arange(3 * 32 * 48).reshape(3, 1, 32, 48) / 4608
    address = entry_address(
        cast(Backbone, CountingBackbone()), clip, ["block.0"], (0.7, 0.1), "a room", 0, "clip"
    )
    assert address == "ca34693c5779a87ef7631fdc27b7ee14484b8413067a2691c9520b3ce7fe0ac2"


def test_short_forms_of_a_tap_share_an_entry(tmp_path: Path):
    video, keys = clips(1)
    backbone = CountingBackbone()
    cached = extractor(tmp_path, backbone)
    cached.extract(video, taps=["block.1"], keys=keys)
    cached.extract(video, taps=[1], keys=keys)
    assert backbone.asked == keys


def test_the_estimate_is_the_size_of_the_file(tmp_path: Path):
    video, keys = clips(1)
    extractor(tmp_path).extract(video, keys=keys)
    estimate = entry_bytes(cast(Backbone, CountingBackbone()), frames=5, height=32, width=48)
    assert 0 <= entries(tmp_path)[0].stat().st_size - estimate < 4096
    fewer = entry_bytes(
        cast(Backbone, CountingBackbone()), ["block.0"], [0.5], frames=5, height=32, width=48
    )
    assert fewer == 2 * 6 * 2 * 2 * 3 + 4 * 3 * 2 * 4 * 6


def test_training_is_the_same_with_a_cold_or_warm_cache_and_to_bf16_without(tmp_path: Path):
    video, keys = clips(4)

    def losses(extract) -> list[float]:
        torch.manual_seed(0)
        head = torch.nn.Linear(10, 1)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.02)
        out = []
        for step in range(12):
            pick = [step % 4, (step + 1) % 4]
            features = extract(video[pick], ["a room"] * 2, keys=[keys[i] for i in pick])
            fused = features.maps["block.1"].mean(1).movedim(1, -1)  # [B, F, H, W, C]
            loss = (head(fused)[..., 0] - features.latent[..., ::2, ::2].mean(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            out.append(loss.item())
        return out

    uncached = CountingBackbone()
    plain = losses(lambda *a, **k: uncached.extract(*a, timesteps=(0.7, 0.1), **k))
    cold = losses(extractor(tmp_path).extract)
    backbone = CountingBackbone()
    warm = losses(extractor(tmp_path, backbone).extract)
    assert backbone.asked == []
    assert warm == cold
    assert cold == pytest.approx(plain, rel=2**-7)
    assert cold != plain
