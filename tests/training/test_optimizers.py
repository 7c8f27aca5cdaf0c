"""What every optimiser and every schedule in the registries must do."""

import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from mmdiff_video.errors import InputError
from mmdiff_video.training import TrainConfig, Trainer, checkpoints
from mmdiff_video.training.optimizers import OPTIMIZERS
from mmdiff_video.training.schedules import SCHEDULES

every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def deep_net() -> nn.Module:
    """Four numbers in, one out; the middle matrix is large enough for every optimiser."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0)
    )


@pytest.fixture
def make_trainer(tiny):
    def make(run: Path, *, loss=tiny.loss_fn, resume: bool = False, **settings) -> Trainer:
        config = {"batch_size": 4, "lr": 1e-2, "warmup_steps": 3, "log_every": 3, "workers": 0}
        fixed = {"preview_every": 0, "precision": "fp32"}
        return Trainer(
            run,
            deep_net(),
            tiny.Samples(),
            loss,
            TrainConfig(**(config | fixed | settings)),
            resume=resume,
        )

    return make


@every_optimizer
def test_every_optimizer_learns(make_trainer, metrics, tmp_path: Path, name: str):
    make_trainer(tmp_path, optimizer=name, steps=90).fit()
    losses = [line["loss"] for line in metrics(tmp_path)]
    assert losses[-1] < 0.2 * losses[0]


@every_optimizer
def test_every_optimizer_resumes_bit_equal(tiny, make_trainer, metrics, tmp_path: Path, name: str):
    settings = {"optimizer": name, "steps": 12, "schedule": "cosine"}
    make_trainer(tmp_path / "whole", **settings).fit()
    calls = 0

    def stopping_loss(model, batch):
        nonlocal calls
        calls += 1
        if calls == 5:
            signal.raise_signal(signal.SIGTERM)
        return tiny.loss_fn(model, batch)

    assert not make_trainer(tmp_path / "parts", loss=stopping_loss, **settings).fit().finished
    assert make_trainer(tmp_path / "parts", resume=True, **settings).fit().finished
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    for file in ("model", "ema", "optimizer"):
        whole, parts = (
            load_file(checkpoints(tmp_path / run)[-1] / f"{file}.safetensors")
            for run in ("whole", "parts")
        )
        assert whole.keys() == parts.keys()
        assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())


@every_optimizer
def test_every_optimizer_names_its_parameters_and_decays_no_bias(name: str):
    model = nn.Sequential(nn.Linear(8, 9), nn.LayerNorm(9), nn.Linear(9, 7))
    model[2].requires_grad_(False)
    config = TrainConfig(optimizer=name, weight_decay=0.1)
    optimizer = config.make_optimizer(model, {"0": 0.5, "0.bias": 2.0})
    found = {
        name: (group["weight_decay"], group["lr_factor"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert found == {
        "0.weight": (0.1, 0.5),
        "0.bias": (0.0, 2.0),
        "1.weight": (0.0, 1.0),
        "1.bias": (0.0, 1.0),
    }


@every_optimizer
def test_every_optimizer_refuses_what_it_cannot_train(name: str):
    config = TrainConfig(optimizer=name)
    with pytest.raises(ValueError, match=r"no trainable parameter starts with \['decoder'\]"):
        config.make_optimizer(deep_net(), {"decoder": 0.5})
    with pytest.raises(ValueError, match="no trainable parameters"):
        config.make_optimizer(deep_net().requires_grad_(False), {})


@every_schedule
@given(warmup=st.integers(0, 50), extra=st.integers(1, 200))
def test_every_schedule_rises_to_the_full_rate_and_stays_below(name: str, warmup: int, extra: int):
    config = TrainConfig(steps=warmup + extra, warmup_steps=warmup, schedule=name)
    rates = [config.lr_scale(step) for step in range(1, config.steps + 1)]
    assert rates[:warmup] == [(i + 1) / warmup for i in range(warmup)]
    assert SCHEDULES[name](0.0) == 1  # where the warm-up ends
    assert all(0 <= rate <= 1 for rate in rates)


@given(warmup=st.integers(0, 50), extra=st.integers(1, 200))
def test_cosine_falls_to_nothing_at_the_last_step(warmup: int, extra: int):
    config = TrainConfig(steps=warmup + extra, warmup_steps=warmup, schedule="cosine")
    rates = [config.lr_scale(step) for step in range(warmup + 1, config.steps + 1)]
    assert sorted(rates, reverse=True) == rates
    assert all(rate > 0 for rate in rates[:-1])
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@given(warmup=st.integers(0, 50), extra=st.integers(1, 200))
def test_constant_keeps_the_full_rate(warmup: int, extra: int):
    config = TrainConfig(steps=warmup + extra, warmup_steps=warmup, schedule="constant")
    assert {config.lr_scale(step) for step in range(warmup + 1, config.steps + 1)} == {1.0}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"optimizer": "adam"}, "unknown train.optimizer 'adam': did you mean 'adamw'?"),
        ({"schedule": "cosin"}, "unknown train.schedule 'cosin': did you mean 'cosine'?"),
        ({"precision": "fp16"}, "unknown train.precision 'fp16'"),
    ],
)
def test_an_unknown_name_lists_the_valid_ones(setting: dict[str, str], words: str):
    valid = {
        "optimizer": list(OPTIMIZERS),
        "schedule": list(SCHEDULES),
        "precision": ["auto", "bf16", "fp32"],
    }
    with pytest.raises(InputError) as error:
        TrainConfig(**setting)
    assert str(error.value).startswith(words)
    (name,) = setting
    assert str(error.value).endswith(f"valid: {', '.join(valid[name])}")
