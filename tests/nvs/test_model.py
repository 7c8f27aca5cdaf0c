from dataclasses import replace

import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.features.source import FeatureSource
from mmdiff_video.nvs.config import BackboneConfig, DataConfig, NVSConfig
from mmdiff_video.nvs.model import build_model, widen_to
from mmdiff_video.nvs.setup import set_up
from mmdiff_video.training import count_parameters
from recon.decoder import DecoderConfig, SceneSpace

FRAMES, HEIGHT, WIDTH = 5, 32, 48
SPACE = SceneSpace(near=0.5, far=10.0, scale_cap=0.3)


@pytest.fixture(scope="module")
def config() -> NVSConfig:
    config = NVSConfig()
    return replace(
        config,
        backbone=BackboneConfig(name="nano-wan", taps=("block.1", "block.3")),
        aggregator=replace(config.aggregator, width=32, depth=1, heads=4),
        decoder=DecoderConfig(width=32, depth=1, heads=4, output_space_stride=4),
        data=DataConfig(frames=FRAMES, height=HEIGHT, width=WIDTH),
    )


def cameras(batch: int = 1):
    viewmats = torch.eye(4).repeat(batch, FRAMES, 1, 1)
    viewmats[:, :, 0, 3] = -torch.linspace(0, 1, FRAMES)
    K = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]])
    return viewmats, K.repeat(batch, FRAMES, 1, 1)


@pytest.mark.parametrize("kind", ["features", "latent"])
def test_both_inputs_end_in_the_same_gaussians_per_pixel(nano_wan, config, kind):
    config = replace(config, input=kind)
    source = FeatureSource(nano_wan, config)
    features = source(torch.rand(2, 3, FRAMES, HEIGHT, WIDTH), ["a", "b"])
    model = build_model(config, nano_wan, SPACE)
    gaussians = model(features, *cameras(2), HEIGHT, WIDTH)
    assert gaussians.means.shape == (2, FRAMES * (HEIGHT // 4) * (WIDTH // 4), 3)
    gaussians.means.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("decoder"))


def test_a_latent_run_never_runs_the_transformer(nano_wan, config, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the transformer ran")

    monkeypatch.setattr(nano_wan.pipeline.transformer, "forward", refuse)
    source = FeatureSource(nano_wan, replace(config, input="latent"))
    video = torch.rand(1, 3, FRAMES, HEIGHT, WIDTH)
    features = source(video, ["a"])
    assert features.maps == {}
    assert torch.equal(features.latent, nano_wan.encode(video))


def test_widen_to_comes_close_to_the_target(nano_wan, config):
    latent = replace(config, input="latent")
    narrow = count_parameters(build_model(latent, nano_wan, SPACE))["total"]
    wide, count = widen_to(latent, 3 * narrow, nano_wan, SPACE)
    assert count == count_parameters(build_model(wide, nano_wan, SPACE))["total"]
    assert abs(count - 3 * narrow) < 0.15 * 3 * narrow
    assert replace(wide, decoder=latent.decoder) == latent


def test_parameter_counts_add_up(nano_wan, config):
    counts = count_parameters(build_model(config, nano_wan, SPACE))
    assert counts["total"] == counts["aggregator"] + counts["decoder"]


def test_set_up_fills_every_gap_from_the_backbone(nano_wan):
    setup = set_up(NVSConfig(decoder=DecoderConfig(width=32, depth=1, heads=4)), nano_wan)
    config, defaults = setup.config, nano_wan.defaults
    assert config.backbone.taps == tuple(t.name for t in nano_wan.resolve_taps())
    assert config.backbone.timesteps == defaults.timesteps
    assert config.backbone.prompt == defaults.prompt
    assert (setup.frames, setup.height, setup.width) == (17, 128, 128)
    assert "untrained" in setup.notice


def test_the_same_seed_gives_the_same_fresh_weights(nano_wan, config):
    first, second = (set_up(config, nano_wan).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DataConfig(frames=16, height=32, width=48)}, "16 frames"),
        ({"data": DataConfig(frames=17, height=36, width=48)}, "height 36"),
        ({"backbone": BackboneConfig(taps=("block.99",))}, r"block\.99"),
        ({"decoder": DecoderConfig(output_space_stride=5)}, "output_space_stride 5"),
    ],
)
def test_what_does_not_fit_is_refused(nano_wan, config, change, message):
    with pytest.raises(InputError, match=message):
        set_up(replace(config, **change), nano_wan)
