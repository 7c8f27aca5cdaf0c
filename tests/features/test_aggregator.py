"""The aggregators: shapes, parameter counts, mixing weights, and what the paper fixes."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.config import load_config, save_config
from mmdiff_video.errors import InputError
from mmdiff_video.features.aggregators import (
    AGGREGATORS,
    LayerAggregator,
    SpatioTemporalAggregator,
    build_aggregator,
)
from mmdiff_video.features.aggregators.adaptive import AdaptiveConfig, TimestepLayer
from mmdiff_video.features.aggregators.cbam import CBAM

SHARED = {"width": 8, "cbam_reduction": 4}
TINY = AdaptiveConfig(**SHARED, depth=2, heads=2, dropout=0.0)
T = (0.78, 0.52, 0.001)
LAYERS = {"block.1": 12, "block.3": 10}
WEIGHTED = [name for name in AGGREGATORS if name != "concat"]


def settings_of(name: str, **changes: Any) -> dict[str, Any]:
    own = {"depth": 2, "heads": 2, "dropout": 0.0} if name == "adaptive" else {}
    return {**SHARED, **own, **changes}


def build(name: str = "adaptive", **changes: Any) -> SpatioTemporalAggregator:
    torch.manual_seed(0)
    return build_aggregator(name, layers=LAYERS, timesteps=T, **settings_of(name, **changes))


def random_maps(frames: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        tap: torch.randn(2, len(T), c, frames, 3, 4, generator=generator)
        for tap, c in LAYERS.items()
    }


def one_layer(module: SpatioTemporalAggregator) -> LayerAggregator:
    layer = module.layers["block_1"]
    assert isinstance(layer, LayerAggregator)
    return layer


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("skip_before_cbam", [True, False])
def test_every_variant_fuses_to_the_same_shape(name, frames, norm_first, skip_before_cbam):
    module = build(name, norm_first=norm_first, skip_before_cbam=skip_before_cbam)
    fused = module(random_maps(frames))
    assert list(fused) == list(LAYERS)
    assert all(m.shape == (2, 8, frames, 3, 4) and m.isfinite().all() for m in fused.values())


@pytest.mark.parametrize("name", AGGREGATORS)
def test_gradients_reach_every_parameter(name):
    module = build(name, **({"layer_scale": 1e-2} if name == "adaptive" else {}))
    sum(m.square().sum() for m in module(random_maps()).values()).backward()
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", WEIGHTED)
def test_mixing_weights_are_positive_and_sum_to_one(name):
    module, maps = build(name), random_maps()
    for tap, weights in module.mixing_weights(maps).items():
        assert weights.shape == (2, len(T), 2, 3, 4), tap
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(2, 2, 3, 4))


def test_adaptive_weights_vary_over_positions_and_static_ones_do_not():
    adaptive = build("adaptive").mixing_weights(random_maps())["block.1"]
    static = build("static").mixing_weights(random_maps())["block.1"]
    assert adaptive.std((2, 3, 4)).min() > 1e-3
    assert static.std((2, 3, 4)).max() == 0


def test_static_weights_start_as_the_mean():
    maps = random_maps()
    static, mean = build("static"), build("mean")
    mean.load_state_dict(static.state_dict(), strict=False)
    for tap, fused in static(maps).items():
        torch.testing.assert_close(fused, mean(maps)[tap])


def test_concat_has_no_mixing_weights_to_show():
    with pytest.raises(ValueError, match="does not mix by weights"):
        build("concat").mixing_weights(random_maps())


def test_single_reads_the_smallest_t_wherever_it_stands():
    torch.manual_seed(0)
    module = build_aggregator("single", layers={"block.1": 12}, timesteps=(0.5, 0.1, 0.9), **SHARED)
    maps = random_maps()["block.1"]
    before = module({"block.1": maps})["block.1"]
    changed = maps.clone()
    changed[:, [0, 2]] += 1
    assert torch.equal(module({"block.1": changed})["block.1"], before)
    changed[:, 1] *= torch.linspace(0, 1, 12)[:, None, None, None]
    assert not torch.equal(module({"block.1": changed})["block.1"], before)
    assert module.mixing_weights({"block.1": maps})["block.1"][:, 1].eq(1).all()


def test_the_skip_takes_the_smallest_t_by_value():
    module = build_aggregator("mean", layers={"block.1": 12}, timesteps=(0.1, 0.9, 0.5), **SHARED)
    layer = one_layer(module)
    maps = random_maps()["block.1"]
    tokens = layer.project(maps)
    expected = layer.cbam((tokens.mean(-2) + 0.1 * tokens[..., 0, :]).movedim(-1, 1))
    torch.testing.assert_close(module({"block.1": maps})["block.1"], expected)


def test_equation_2_refines_before_a_plain_skip():
    module = build("mean", skip_before_cbam=False)
    layer = one_layer(module)
    maps = random_maps()
    tokens = layer.project(maps["block.1"])
    expected = layer.cbam(tokens.mean(-2).movedim(-1, 1)) + tokens[..., 2, :].movedim(-1, 1)
    torch.testing.assert_close(module(maps)["block.1"], expected)


@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(len(T))), name=st.sampled_from(sorted(AGGREGATORS)))
def test_the_order_of_timesteps_does_not_matter_when_parameters_follow(order, name):
    module = build(name)
    moved = build_aggregator(
        name, layers=LAYERS, timesteps=[T[i] for i in order], **settings_of(name)
    )
    state = module.state_dict()
    for key, value in module.state_dict().items():
        owner, _, rest = key.partition("norms." if "norms." in key else "projections.")
        if rest and name != "single":
            kind = "norms." if "norms." in key else "projections."
            index, leaf = rest.split(".", 1)
            state[f"{owner}{kind}{order.index(int(index))}.{leaf}"] = value
        elif key.endswith("timestep_embedding"):
            state[key] = value[:, order]
        elif key.endswith("reduce.weight"):
            state[key] = value.unflatten(1, (len(T), -1))[:, order].flatten(1)
        elif key.endswith(".logits"):
            state[key] = value[order]
    moved.load_state_dict(state)
    maps = random_maps()
    expected = module(maps)
    for tap, fused in moved({tap: m[:, order] for tap, m in maps.items()}).items():
        torch.testing.assert_close(fused, expected[tap])


def test_layer_scale_makes_the_transformer_start_as_the_identity():
    x = torch.randn(5, 4, 8)
    for scale, tolerance in ((1e-6, 1e-5), (1.0, None)):
        layer = TimestepLayer(dataclasses.replace(TINY, layer_scale=scale))
        change = (layer(x) - x).abs().max()
        assert change < tolerance if tolerance else change > 1e-2


def test_attention_matches_torch():
    layer = TimestepLayer(TINY)
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.out.weight,
            "out_proj.bias": layer.out.bias,
        }
    )
    x = torch.randn(6, 4, 8)
    torch.testing.assert_close(layer.attention(x), reference(x, x, x)[0])


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_position_is_mixed_on_its_own(name):
    layer = one_layer(build(name))
    maps = random_maps()["block.1"]
    mixture, _ = layer.mix(layer.project(maps[:, -1:] if name == "single" else maps))
    flipped = maps.flip((3, 5))
    mixture_flipped, _ = layer.mix(layer.project(flipped[:, -1:] if name == "single" else flipped))
    torch.testing.assert_close(mixture_flipped, mixture.flip((1, 3)))


def test_cbam_of_one_frame_is_image_cbam():
    torch.manual_seed(0)
    cbam = CBAM(8, reduction=4, time_kernel=3, space_kernel=7)
    image = torch.randn(2, 8, 5, 6)
    # The formulas of the CBAM paper on images, with the middle slice of the kernel.
    average, maximum = image.mean((2, 3)), image.amax((2, 3))
    gated = (
        image * (cbam.channel_mlp(average) + cbam.channel_mlp(maximum)).sigmoid()[..., None, None]
    )
    summary = torch.stack([gated.mean(1), gated.amax(1)], dim=1)
    kernel = cbam.position_conv.weight[:, :, 1]
    expected = gated * F.conv2d(summary, kernel, padding=3).sigmoid()
    torch.testing.assert_close(cbam(image.unsqueeze(2)).squeeze(2), expected)


def test_huge_bfloat16_features_are_normalised_in_float32():
    maps = {tap: (m * 1e4 + 3e4).bfloat16() for tap, m in random_maps().items()}
    module = build()
    for tap, fused in module(maps).items():
        exact = module({name: m.float() for name, m in maps.items()})[tap]
        assert fused.dtype == torch.float32
        torch.testing.assert_close(fused, exact)


def test_autocast_stays_close_to_float32():
    module, maps = build(), random_maps()
    with torch.autocast("cpu", torch.bfloat16):
        half = module({tap: m.bfloat16() for tap, m in maps.items()})
    for tap, fused in module(maps).items():
        torch.testing.assert_close(half[tap].float(), fused, atol=0.05, rtol=0.05)


def test_one_layer_at_the_papers_size_has_31_million_parameters():
    with torch.device("meta"):
        module = build_aggregator(
            layers={"single.4": 3072},
            timesteps=(0.78, 0.52, 0.26, 0.001),
        )
    norms = 4 * 2 * 3072
    projections = 4 * (3072 * 768 + 768)
    attention = 4 * (768 * 768 + 768)
    feed_forward = 2 * 768 * 3072 + 3072 + 768
    layer = attention + feed_forward + 4 * 768 + 2 * 768
    cbam = 2 * 768 * 48 + 48 + 768 + 2 * 3 * 7 * 7
    expected = norms + projections + 4 * 768 + 3 * layer + 769 + cbam + 1
    assert module.parameter_counts() == {"single.4": expected}
    assert 30.5e6 < expected < 31.5e6


def test_layers_share_no_parameters():
    counts = build().parameter_counts()
    assert sum(counts.values()) == sum(p.numel() for p in build().parameters())
    assert counts["block.1"] - counts["block.3"] == len(T) * 2 * (8 + 2)


def test_unknown_variant_lists_the_valid_ones():
    with pytest.raises(InputError, match=r"'adaptative': did you mean 'adaptive'.*static, concat"):
        build("adaptative")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"block.1": m["block.1"]}, "built for taps block.1, block.3, got block.1$"),
        (lambda m: m | {"block.1": m["block.1"][:, :2]}, r"T=3, C=12.* at tap block.1"),
        (lambda m: m | {"block.3": m["block.1"]}, r"T=3, C=10.* at tap block.3"),
        (lambda m: m | {"block.3": m["block.3"][:, :, :, 0]}, r"at tap block.3"),
    ],
)
def test_features_of_another_make_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build()(change(random_maps()))


@pytest.mark.parametrize(
    "values", [{"heads": 5}, {"dropout": 1.0}, {"cbam_space_kernel": 4}, {"width": 0}]
)
def test_impossible_hyperparameters_are_refused(values):
    with pytest.raises(
        InputError, match=rf"aggregator\.{next(iter(values)).replace('heads', 'width')}"
    ):
        AdaptiveConfig(**values)


def test_duplicate_timesteps_are_refused():
    with pytest.raises(ValueError, match="distinct timesteps"):
        build_aggregator("mean", layers=LAYERS, timesteps=(0.5, 0.5), **SHARED)


def test_config_round_trips_through_yaml(tmp_path):
    save_config(TINY, tmp_path / "aggregator.yaml")
    assert load_config(AdaptiveConfig, tmp_path / "aggregator.yaml") == TINY
