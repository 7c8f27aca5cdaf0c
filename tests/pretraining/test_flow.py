import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_cards import tiny_card

from mmdiff_video.backbones import load_backbone
from mmdiff_video.backbones.nano.build import build
from mmdiff_video.backbones.noise import noised, velocity_to
from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.config import DiTStageConfig
from mmdiff_video.pretraining.denoisers import load_denoiser, new_denoiser
from mmdiff_video.pretraining.flow import (
    FlowMatching,
    GuidanceDistillation,
    flow_point,
)
from mmdiff_video.pretraining.timesteps import TIMESTEPS, FlowConfig, random_timesteps
from mmdiff_video.training import TrainConfig

CARDS = ("nano-wan", "nano-flux")


def test_the_velocity_leads_from_data_to_noise():
    x0, eps = torch.randn(2, 3, 16, 1, 4, 4)
    t = torch.tensor([0.0, 0.25, 1.0])
    noisy, velocity = flow_point(x0, eps, t)
    assert torch.equal(noisy[0], x0[0])
    assert torch.equal(noisy[2], eps[2])
    # a straight line: from x_t against the velocity, t long, lies x_0
    assert torch.allclose(noisy - t.reshape(-1, 1, 1, 1, 1) * velocity, x0, atol=1e-6)
    assert torch.allclose(velocity, eps - x0)


def test_the_loss_of_the_exact_velocity_is_zero_and_of_none_its_energy():
    x0 = torch.zeros(512, 1, 1, 2, 2)  # then x_t = t eps, and eps - x_0 = x_t / t
    loss = FlowMatching(FlowConfig())
    batch = {"latent": x0, "tokens": {}}
    exact, _ = loss(lambda x, t, tokens, g: x / t.reshape(-1, 1, 1, 1, 1), batch)  # type: ignore
    nothing, _ = loss(lambda x, t, tokens, g: torch.zeros_like(x), batch)  # type: ignore
    assert exact < 1e-6
    assert nothing == pytest.approx(1, abs=0.1)


def test_the_error_of_a_predicted_sample_counts_over_t_but_not_without_bound():
    x0 = torch.randn(4, 1, 1, 2, 2)
    t = torch.tensor([0.01, 0.05, 0.25, 1.0])
    seen = []

    def off_by_one(x, t, tokens, g):  # the velocity to x_0 + 1
        seen.append(t)
        return velocity_to(x0 + 1, x, t)

    for flow in (FlowConfig(timesteps="uniform", shift=0.05), FlowConfig()):
        loss, _ = FlowMatching(flow, predicts_sample=True)(
            off_by_one,  # type: ignore
            {"latent": x0, "tokens": {}},
        )
        assert loss == pytest.approx(float((1 / seen[-1].clamp(min=0.25) ** 2).mean()), rel=1e-2)
    noisy = noised(x0, torch.randn(x0.shape), t.reshape(-1, 1, 1, 1, 1))
    back = noisy - t.reshape(-1, 1, 1, 1, 1) * velocity_to(x0, noisy, t)
    assert torch.allclose(back, x0, atol=1e-6)


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_timesteps_fill_the_interval_and_shift_towards_noise(kind: str):
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    plain = random_timesteps(20_000, FlowConfig(timesteps=kind), cpu)
    shifted = random_timesteps(20_000, FlowConfig(timesteps=kind, shift=3.0), cpu)
    assert 0 < plain.min() < 0.05
    assert 0.95 < plain.max() < 1
    assert plain.median() == pytest.approx(0.5, abs=0.02)
    assert shifted.median() == pytest.approx(0.75, abs=0.02)  # 3 * 0.5 / (1 + 2 * 0.5)
    spread = {"uniform": 0.289, "logit-normal": 0.209}[kind]
    assert plain.std() == pytest.approx(spread, abs=0.01)


@pytest.mark.parametrize("shift", [0.05, 1.0, 7.0])
@pytest.mark.parametrize(
    ("kind", "draw", "ends"),
    [("uniform", "rand", [0.0, 1 - 2**-24]), ("logit-normal", "randn", [-200.0, 200.0])],
)
def test_the_ends_of_what_chance_gives_are_timesteps_with_a_finite_loss(
    kind: str, draw: str, ends: list[float], shift: float, monkeypatch
):
    flow = FlowConfig(timesteps=kind, shift=shift)
    monkeypatch.setattr(torch, draw, lambda count, device: torch.tensor(ends[:count]))
    t = random_timesteps(2, flow, torch.device("cpu"))
    assert 0 < t[0] < 1e-3
    assert t[1] <= 1
    weight = torch.tensor(0.9, requires_grad=True)
    loss, _ = FlowMatching(flow, predicts_sample=True)(
        lambda x, t, tokens, g: velocity_to(weight * x, x, t),  # type: ignore
        {"latent": torch.ones(2, 1, 1, 2, 2), "tokens": {}},
    )
    loss.backward()
    assert loss.isfinite()
    assert weight.grad is not None
    assert weight.grad.isfinite()


def test_a_stage_has_its_own_timesteps_or_the_runs():
    flow = FlowConfig(timesteps="uniform", shift=1.5, prompt_dropout=0.3)
    assert DiTStageConfig().flow_over(flow) == flow
    assert DiTStageConfig(shift=2.0).flow_over(flow) == replace(flow, shift=2.0)
    own = DiTStageConfig(timesteps="logit-normal").flow_over(flow)
    assert own == replace(flow, timesteps="logit-normal")


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match=r"stage 'clips': steps is 0"):
        DiTStageConfig(name="clips", steps=0)
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        FlowConfig(timesteps="unifrom")
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        DiTStageConfig(timesteps="unifrom")
    with pytest.raises(InputError, match=r"flow.shift is 0"):
        FlowConfig(shift=0)
    with pytest.raises(InputError, match="prompt_dropout is 2"):
        FlowConfig(prompt_dropout=2)
    with pytest.raises(InputError, match=r"unknown objective 'flwo'.*valid: flow, guidance"):
        DiTStageConfig(objective="flwo")
    with pytest.raises(InputError, match=r"schedule of stage 'large' 'cosin'.*constant, cosine"):
        DiTStageConfig(name="large", schedule="cosin")  # not only when the stage begins
    with pytest.raises(InputError, match=r"stage 'large': shift is -1"):
        DiTStageConfig(name="large", shift=-1)


@pytest.mark.parametrize("name", CARDS)
def test_a_denoiser_answers_as_the_backbone_with_the_pipelines_own_text(name: str, tmp_path: Path):
    card = tiny_card(name)
    build(card, tmp_path / "folder")
    backbone = load_backbone(tmp_path / "folder", device="cpu")
    denoiser = load_denoiser(tmp_path / "folder", card)
    prompts = ["A red ball on the left.", "", "unlisted words, spelt: Zyx!"]
    noisy = torch.randn(3, backbone.geometry.channels, 2 if name == "nano-wan" else 1, 4, 6)
    t, guidance = torch.tensor([0.1, 0.5, 0.9]), torch.full([3], 3.5)
    with torch.no_grad():
        ours = denoiser(noisy, t, denoiser.tokenize(prompts), guidance)
        theirs = backbone.velocity(noisy, t, backbone.encode_text(prompts), 3.5)
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert (ours[0] - ours[1]).abs().max() > 1e-3


def test_a_dit_that_predicted_something_else_begins_its_last_layer_anew(tmp_path: Path):
    card = tiny_card("nano-wan")
    build(card, tmp_path / "folder")
    assert load_denoiser(tmp_path / "folder", card).transformer.proj_out.weight.any()
    scheduler = {**card.build["scheduler"], "prediction_type": "flow_prediction"}
    velocity = replace(card, build={**card.build, "scheduler": scheduler})
    denoiser = load_denoiser(tmp_path / "folder", velocity)
    assert not denoiser.predicts_sample
    assert not denoiser.transformer.proj_out.weight.any()


@pytest.mark.parametrize("name", CARDS)
def test_a_fresh_denoiser_says_nothing_and_learns_its_text_encoders_too(name: str):
    torch.manual_seed(0)
    denoiser = new_denoiser(tiny_card(name))
    x0 = torch.randn((4, 64, 2, 4, 4) if name == "nano-wan" else (4, 16, 1, 4, 4))
    tokens = denoiser.tokenize(["a red ball", "a blue ball"] * 2)
    loss = FlowMatching(FlowConfig(), predicts_sample=denoiser.predicts_sample)
    first, _ = loss(denoiser, {"latent": x0, "tokens": tokens})
    optimizer = torch.optim.AdamW(denoiser.parameters(), 1e-2)
    before = copy.deepcopy(denoiser.text_encoders.state_dict())
    # gates open one after the other: output, blocks, text
    for _ in range(4):
        optimizer.zero_grad()
        value, _ = loss(denoiser, {"latent": x0, "tokens": tokens})
        value.backward()
        optimizer.step()
    if denoiser.predicts_sample:  # x_0 over t
        assert float(first.detach()) > 2
    else:  # eps - x_0
        assert float(first.detach()) == pytest.approx(2, abs=0.5)
    assert all(p.grad is not None for p in denoiser.text_encoders.parameters())
    after = denoiser.text_encoders.state_dict()
    assert any((before[k] - after[k]).abs().max() > 1e-3 for k in after)


def test_distillation_teaches_the_guided_velocity_for_the_scale_told():
    torch.manual_seed(0)
    card = tiny_card("nano-flux")
    denoiser = new_denoiser(card)
    for p in denoiser.transformer.parameters():  # as after some training
        p.data += 0.05 * torch.randn_like(p)
    loss = GuidanceDistillation(FlowConfig(), denoiser, (1.0, 5.0), bf16=False)
    noisy, t = torch.randn(2, 16, 1, 4, 4), torch.tensor([0.3, 0.6])
    tokens, empty = denoiser.tokenize(["a red ball", ""]), denoiser.tokenize(["", ""])
    with torch.no_grad():
        conditional = denoiser(noisy, t, tokens, torch.ones(2))
        unconditional = denoiser(noisy, t, empty, torch.ones(2))
        target = loss._guided(noisy, t, tokens, torch.tensor([3.0, 3.0]))
    wanted = unconditional + 3 * (conditional - unconditional)
    assert torch.allclose(target, wanted, atol=1e-5)
    assert torch.allclose(target[1], unconditional[1], atol=1e-5)  # the empty prompt itself
    assert (target[0] - conditional[0]).abs().max() > 1e-3

    batch = {"latent": torch.randn(2, 16, 1, 4, 4), "tokens": tokens}
    same = GuidanceDistillation(FlowConfig(), denoiser, (1.0, 1.0), bf16=False)
    assert same(denoiser, batch)[0] < 1e-10
    assert loss(denoiser, batch)[0] > 1e-6


def test_distillation_begins_with_every_scale_answered_as_the_trained_one():
    torch.manual_seed(0)
    denoiser = new_denoiser(tiny_card("nano-flux"))
    for p in denoiser.transformer.parameters():  # as after some training
        p.data += 0.05 * torch.randn_like(p)
    noisy, t = torch.randn(2, 16, 1, 4, 4), torch.tensor([0.3, 0.6])
    tokens = denoiser.tokenize(["a red ball", ""])

    def at(scale: float) -> torch.Tensor:
        return denoiser(noisy, t, tokens, torch.full([2], scale))

    with torch.no_grad():
        before = at(1.0)
        assert (at(4.0) - before).abs().max() > 1e-3
        denoiser.forget_guidance(1.0)
        assert torch.allclose(at(1.0), before, atol=1e-5)
        assert torch.allclose(at(4.0), before, atol=1e-5)
    at(4.0).square().sum().backward()  # and they can part again
    last = denoiser.transformer.time_text_embed.guidance_embedder.linear_2.weight
    assert last.grad.abs().max() > 0


def test_warm_up_is_a_tenth_of_a_short_stage():
    train = TrainConfig(warmup_steps=200)
    assert DiTStageConfig(steps=100).over(train).warmup_steps == 10
    assert DiTStageConfig(steps=5000).over(train).warmup_steps == 200
