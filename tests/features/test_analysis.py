"""The layer and timestep statistics, on maps whose figures are known."""

import math

import pytest
import torch

from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.features.analysis import channel_entropy, layer_statistics


def features(maps: dict[str, torch.Tensor]) -> DiTFeatures:
    first = next(iter(maps.values()))
    times = tuple(0.1 * (t + 1) for t in range(first.shape[1]))
    return DiTFeatures(maps, times, times, torch.zeros(len(first), 1, 1, 1, 1))


def random_maps(seed: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 2, 8, 1, 4, 6, generator=generator)


@pytest.mark.parametrize(("alike", "entropy"), [(1, 0.0), (2, 0.5), (4, 1.0)])
def test_entropy_counts_the_channels_that_share_the_energy(alike, entropy):
    maps = torch.zeros(4, 1, 1, 1)
    maps[:alike] = -3.0
    assert channel_entropy(maps).item() == pytest.approx(entropy, abs=1e-6)


def test_entropy_does_not_see_the_scale():
    maps = random_maps(0)
    torch.testing.assert_close(channel_entropy(maps), channel_entropy(1e4 * maps))
    assert channel_entropy(torch.zeros(4, 1, 1, 1)).item() == 0


def test_norms_of_tokens_of_known_length():
    maps = torch.zeros(1, 1, 4, 1, 1, 2)
    maps[0, 0, 0, 0, 0] = torch.tensor([3.0, 0.0])
    maps[0, 0, 1, 0, 0] = torch.tensor([4.0, 1.0])  # lengths 5 and 1
    found = layer_statistics([features({"block.0": maps})])
    assert found.norm.item() == pytest.approx(3)
    assert found.norm_variation.item() == pytest.approx(2 / 3)


def test_a_layer_correlates_fully_with_its_own_multiple():
    maps = random_maps(1)
    found = layer_statistics(
        [features({"block.0": maps, "block.1": 2 * maps + 5, "block.2": -maps})]
    )
    expected = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]]).expand(2, 3, 3)
    torch.testing.assert_close(found.correlation, expected)


def test_independent_layers_hardly_correlate():
    found = layer_statistics([features({"block.0": random_maps(2), "block.1": random_maps(3)})])
    assert found.correlation[:, 0, 1].abs().max() < 4 / math.sqrt(8 * 24)


def test_batches_do_not_change_the_means():
    maps = {"block.0": random_maps(4, 3), "block.1": random_maps(5, 3)}
    whole = layer_statistics([features(maps)])
    parts = layer_statistics(
        [features({k: m[i : i + 1] for k, m in maps.items()}) for i in (0, 1, 2)]
    )
    assert whole.samples == parts.samples == 3
    for name in ("norm", "norm_variation", "correlation", "entropy"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name))


def test_nothing_and_a_mixture_are_refused():
    with pytest.raises(ValueError, match="no features"):
        layer_statistics([])
    mixed = [features({"block.0": random_maps(0)}), features({"block.1": random_maps(0)})]
    with pytest.raises(ValueError, match="differ"):
        layer_statistics(mixed)
