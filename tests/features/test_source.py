"""What the frozen backbone is asked about a batch of clips."""

import torch

from mmdiff_video.features.source import FeatureSource
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
