"""What the frozen backbone is asked about a batch of clips."""

import copy
from dataclasses import replace

import pytest
import torch

from mmdiff_video.features.source import CacheConfig, FeatureSource
from mmdiff_video.nvs.config import BackboneConfig, NVSConfig


def test_each_clip_is_read_with_its_own_caption_or_the_runs_prompt(nano_wan):
    config = NVSConfig(
        backbone=BackboneConfig(taps=("block.1",), timesteps=(0.5,), prompt="A quiet room.")
    )
    video = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    source = FeatureSource(nano_wan, config)
    found = source(video, ["a", "b"], ["A red ball.", None]).maps["block.1"]
    expected = nano_wan.extract(
        video, ["A red ball.", "A quiet room."], ["block.1"], [0.5], keys=["a", "b"]
    ).maps["block.1"]
    assert torch.equal(found, expected)
    without = source(video, ["a", "b"]).maps["block.1"]
    assert not torch.equal(found[0], without[0])
    assert torch.equal(found[1], without[1])


def test_an_empty_prompt_is_a_prompt(nano_wan):
    """As an ablation of the text: it must not become the default."""
    config = NVSConfig(backbone=BackboneConfig(taps=("block.1",), timesteps=(0.5,), prompt=""))
    video = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = FeatureSource(nano_wan, config)(video, ["a", "b"], ["", None]).maps["block.1"]
    expected = nano_wan.extract(video, ["", ""], ["block.1"], [0.5], keys=["a", "b"])
    assert torch.equal(found, expected.maps["block.1"])


_READ = BackboneConfig(taps=("block.1",), timesteps=(0.5,), prompt="A quiet room.")


@pytest.mark.parametrize(
    "change",
    [{"taps": ("block.2",)}, {"timesteps": (0.6,)}, {"prompt": "A loud room."}, {"seed": 1}],
    ids=str,
)
def test_other_taps_timesteps_prompt_or_noise_are_other_features(nano_wan, change):
    config, other = NVSConfig(backbone=_READ), NVSConfig(backbone=replace(_READ, **change))
    assert FeatureSource(nano_wan, config).identity != FeatureSource(nano_wan, other).identity


def test_other_weights_input_or_concepts_are_other_features(nano_wan):
    config = NVSConfig(backbone=_READ)
    known = FeatureSource(nano_wan, config).identity
    other = copy.copy(nano_wan)
    other.fingerprint = "other"
    assert FeatureSource(other, config).identity != known
    assert FeatureSource(nano_wan, replace(config, input="latent")).identity != known
    assert FeatureSource(nano_wan, config, ["chair"]).identity != known


def test_how_and_where_features_are_computed_does_not_make_others(nano_wan, tmp_path):
    means = BackboneConfig(name="elsewhere", offload="model", vae_tiling=True, chunk=1)
    moved = replace(means, taps=_READ.taps, timesteps=_READ.timesteps, prompt=_READ.prompt)
    here = NVSConfig(backbone=_READ)
    there = NVSConfig(backbone=moved, cache=CacheConfig(dir=str(tmp_path)))
    assert FeatureSource(nano_wan, here).identity == FeatureSource(nano_wan, there).identity
