from typing import Any

import pytest
import torch
from torch import nn

from mmdiff_video.backbones import Backbone
from mmdiff_video.backbones.taps import run_up_to, tapped
from mmdiff_video.backbones.types import TextEmbedding


def transformer_inputs(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor, TextEmbedding]:
    generator = torch.Generator().manual_seed(0)
    frames = 2 if backbone.geometry.is_video else 1
    noisy = torch.randn(2, backbone.geometry.channels, frames, 4, 6, generator=generator)
    return noisy, torch.tensor([0.7, 0.2]), backbone.encode_text(["a red ball", "a chair"])


def hooks_on(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@torch.no_grad()
def test_tapped_forward_is_bit_equal_to_untapped(backbone: Backbone) -> None:
    noisy, t, text = transformer_inputs(backbone)
    plain = backbone.velocity(noisy, t, text, 3.5)
    read: dict[str, torch.Tensor] = {}
    modules = backbone.tap_modules(backbone.tap_specs())
    specs = {spec.name: spec for spec in backbone.tap_specs()}
    tokens = noisy.shape[2] * 2 * 3

    def keep(name: str, output: Any) -> None:
        read[name] = backbone.adapter.picture_tokens(specs[name], output, tokens).clone()

    with tapped(modules, keep):
        assert torch.equal(backbone.velocity(noisy, t, text, 3.5), plain)
    assert torch.equal(backbone.velocity(noisy, t, text, 3.5), plain)
    assert plain.shape == noisy.shape
    for spec in backbone.tap_specs():
        # the picture's tokens, not the text's
        assert read[spec.name].shape == (2, tokens, spec.width)


def test_forward_stops_after_the_last_tapped_block(backbone: Backbone) -> None:
    specs = backbone.tap_specs()
    modules = backbone.tap_modules(specs)
    ran: list[str] = []
    for i in range(len(specs)):
        ran.clear()
        with tapped(modules, lambda name, _: ran.append(name)):
            latent = torch.zeros(1, backbone.geometry.channels, 1, 4, 4)
            backbone.extract_latent(latent, taps=[specs[i].name], timesteps=[0.5], keys=["k"])
        assert ran == [spec.name for spec in specs[: i + 1]]


def test_hooks_are_gone_afterwards_and_after_errors(backbone: Backbone) -> None:
    model = backbone.pipeline.transformer
    latent = torch.zeros(1, backbone.geometry.channels, 1, 4, 4)
    backbone.extract_latent(latent, timesteps=[0.5], keys=["k"])
    assert hooks_on(model) == 0

    def fail(name: str, output: Any) -> None:
        raise RuntimeError("sink")

    modules = backbone.tap_modules(backbone.tap_specs())
    noisy, t, text = transformer_inputs(backbone)
    with pytest.raises(RuntimeError, match="sink"), tapped(modules, fail):
        run_up_to(model, list(modules.values())[-1], lambda: backbone.velocity(noisy, t, text, 3.5))
    assert hooks_on(model) == 0


def test_a_forward_that_never_reaches_the_block_still_ends() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    run_up_to(layers, nn.Linear(2, 2), lambda: layers(torch.zeros(1, 2)))
    assert hooks_on(layers) == 0


def test_early_exit_frees_what_offloading_brought_in(tiny_folders: dict) -> None:
    """accelerate brings weights in for a forward; one that is cut short must send them away."""
    from accelerate import cpu_offload

    from mmdiff_video.backbones import load_backbone

    backbone = load_backbone(str(tiny_folders["wan"]), device="cpu")
    shape = (1, backbone.geometry.channels, 2, 4, 6)
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before = backbone.extract_latent(latent, timesteps=[0.5], keys=["k"])
    model = cpu_offload(backbone.pipeline.transformer, execution_device=torch.device("cpu"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    after = backbone.extract_latent(latent, timesteps=[0.5], keys=["k"])
    assert {p.device.type for p in model.parameters()} == {"meta"}
    for name, m in before.maps.items():
        assert torch.equal(m, after.maps[name])


def test_early_exit_runs_the_roots_offload_hook() -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module

    calls: list[str] = []

    class Recorder(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append("in")
            return args, kwargs

        def post_forward(self, module, output):
            calls.append("out")
            return output

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    add_hook_to_module(model, Recorder())
    run_up_to(model, model[0], lambda: model(torch.zeros(1, 2)))
    run_up_to(model, nn.Linear(2, 2), lambda: model(torch.zeros(1, 2)))  # not stopped: once only
    assert calls == ["in", "out", "in", "out"]
