import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mmdiff_video.errors import InputError
from mmdiff_video.training import TrainConfig, checkpoints, load_model
from mmdiff_video.training.attention import Float32Attention


def test_a_run_learns_and_leaves_its_records(tiny, metrics, tmp_path: Path):
    result = tiny.tiny_trainer(tmp_path, steps=120, batch_size=4, notice="untrained backbone").fit()

    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(3, 121, 3))
    assert lines[-1]["loss"] < 0.2 * lines[0]["loss"]
    assert {"l1", "lr", "grad_norm", "epoch", "notice"} <= lines[0].keys()
    assert lines[0]["notice"] == "untrained backbone"
    assert result.finished
    assert result.step == 120
    assert result.last["loss"] == lines[-1]["loss"]
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000116", "step-000120"]
    files = {p.name for p in checkpoints(tmp_path)[-1].iterdir()}
    assert files == {"model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"}


def test_logged_loss_is_the_mean_since_the_line_before(tiny, metrics, tmp_path: Path):
    tiny.tiny_trainer(tmp_path / "each", log_every=1).fit()
    tiny.tiny_trainer(tmp_path / "third", log_every=3).fit()
    each = [line["loss"] for line in metrics(tmp_path / "each")]
    third = [line["loss"] for line in metrics(tmp_path / "third")]
    assert third == pytest.approx([sum(each[i : i + 3]) / 3 for i in range(0, 12, 3)])


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(tiny, metrics, tmp_path: Path):
    settings = {"dropout": 0.3, "grad_accumulation": 2, "schedule": "cosine", "broken": (5,)}
    tiny.tiny_trainer(tmp_path / "whole", **settings).fit()

    calls = 0

    def loss_then_sigterm(model, batch):
        nonlocal calls
        calls += 1
        if calls == 10:  # in the second forward of step 5
            os.kill(os.getpid(), signal.SIGTERM)
        return tiny.loss_fn(model, batch)

    before = signal.getsignal(signal.SIGTERM)
    stopped = tiny.tiny_trainer(tmp_path / "parts", loss=loss_then_sigterm, **settings).fit()
    assert not stopped.finished
    assert stopped.step == 5  # a multiple of neither log_every nor checkpoint_every
    assert signal.getsignal(signal.SIGTERM) is before

    resumed = tiny.tiny_trainer(tmp_path / "parts", resume=True, **settings).fit()
    assert resumed.finished
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    for ema in (True, False):
        whole, parts = tiny.Tiny(), tiny.Tiny()
        assert load_model(tmp_path / "whole", whole, ema=ema) == 12
        assert load_model(tmp_path / "parts", parts, ema=ema) == 12
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, parts.state_dict()[name]), name


def test_a_finished_run_can_be_prolonged(tiny, metrics, tmp_path: Path):
    tiny.tiny_trainer(tmp_path / "long", steps=18, dropout=0.3).fit()
    tiny.tiny_trainer(tmp_path / "short", steps=12, dropout=0.3).fit()
    tiny.tiny_trainer(tmp_path / "short", steps=18, dropout=0.3, resume=True).fit()
    assert metrics(tmp_path / "short") == metrics(tmp_path / "long")


def test_previews_do_not_change_the_run(tiny, metrics, tmp_path: Path):
    seen = []

    def preview(model: nn.Module, step: int, path: Path) -> None:
        torch.rand(7)  # whatever a preview draws
        seen.append((step, model.training, model.trunk.weight.clone()))
        if step != 10:
            Image.new("RGB", (4, 4)).save(path)

    tiny.tiny_trainer(tmp_path / "plain", dropout=0.3).fit()
    tiny.tiny_trainer(tmp_path / "drawn", dropout=0.3, preview=preview, preview_every=5).fit()
    assert metrics(tmp_path / "drawn") == metrics(tmp_path / "plain")
    assert [(step, training) for step, training, _ in seen] == [
        (5, False),
        (10, False),
        (12, False),
    ]
    drawn = sorted(p.name for p in (tmp_path / "drawn" / "previews").iterdir())
    assert drawn == ["step-000005.png", "step-000012.png"]  # one drew nothing
    averaged = tiny.Tiny()
    load_model(tmp_path / "drawn", averaged)
    assert torch.equal(averaged.trunk.weight, seen[-1][2])


def test_workers_read_what_the_process_itself_would(tiny, metrics, tmp_path: Path):
    tiny.tiny_trainer(tmp_path / "own", steps=6).fit()
    tiny.tiny_trainer(tmp_path / "workers", steps=6, workers=2).fit()
    assert metrics(tmp_path / "workers") == metrics(tmp_path / "own")


def test_accumulation_equals_a_larger_batch(tiny, metrics, tmp_path: Path):
    tiny.tiny_trainer(tmp_path / "large", batch_size=4, broken=(2, 7)).fit()
    tiny.tiny_trainer(tmp_path / "small", batch_size=1, grad_accumulation=4, broken=(2, 7)).fit()
    for large, small in zip(metrics(tmp_path / "large"), metrics(tmp_path / "small"), strict=True):
        assert small == pytest.approx(large, rel=1e-5)


def test_broken_samples_are_counted_and_named(tiny, tmp_path: Path, capsys):
    result = tiny.tiny_trainer(tmp_path, broken=(0, 11)).fit()
    assert result.skipped == {"sample-0": "made broken", "sample-11": "made broken"}
    assert result.last["skipped"] == 2
    report = json.loads((tmp_path / "skipped.json").read_text())
    assert report["samples"] == 12
    assert {"key": "sample-11", "reason": "made broken"} in report["skipped"]
    assert "2 of 12 samples could not be used" in capsys.readouterr().err


def test_a_set_without_a_usable_sample_fails_after_one_pass(tiny, tmp_path: Path):
    trainer = tiny.tiny_trainer(tmp_path, steps=1000, broken=tuple(range(12)))
    with pytest.raises(InputError, match=r"none of the 12 samples.*made broken"):
        trainer.fit()
    assert len(json.loads((tmp_path / "skipped.json").read_text())["skipped"]) == 12


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_non_finite_numbers_end_the_run_before_they_reach_the_weights(tiny, tmp_path: Path, where):
    calls = 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        value, logs = tiny.loss_fn(model, batch)
        if calls < 7:
            return value, logs
        # the square root's slope at 0 is infinite where its value is not
        return (value * math.nan if where == "loss" else (value * 0).sqrt() + value), logs

    trainer = tiny.tiny_trainer(tmp_path, loss=loss)
    with pytest.raises(InputError, match=rf"{where}.* is (nan|inf) at step 7"):
        trainer.fit()
    assert checkpoints(tmp_path)[-1].name == "step-000004"
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_bf16_covers_the_forward_and_nothing_else(tiny, tmp_path: Path):
    seen = set()

    def loss(model, batch):
        hook = model.trunk.register_forward_hook(lambda _m, _i, out: seen.add(out.dtype))
        out = model(batch["x"])
        hook.remove()
        assert out.dtype == torch.float32
        assert (batch["x"] @ batch["x"].T).dtype == torch.float32
        return (out - batch["y"]).square().mean(), {}

    trainer = tiny.tiny_trainer(tmp_path, loss=loss, precision="bf16")
    trainer.fit()
    assert seen == {torch.bfloat16}
    assert "forward" not in vars(trainer.model)


def test_on_a_cpu_attention_of_a_bf16_forward_is_in_float32():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 9, 16).bfloat16().requires_grad_() for _ in range(3))
    mask = torch.randn(9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), Float32Attention():
        attended = F.scaled_dot_product_attention(q, k, value=v, attn_mask=mask)
        product = attended @ k.transpose(-1, -2)
    exact = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask.float())
    assert attended.dtype == product.dtype == torch.bfloat16
    assert torch.equal(attended, exact.bfloat16())
    for mine, other in zip(
        torch.autograd.grad(attended.float().square().sum(), (q, k, v)),
        torch.autograd.grad(exact.square().sum(), (q, k, v)),
        strict=True,
    ):
        assert torch.allclose(mine.float(), other.float(), rtol=0.02, atol=0.02)


def test_a_folder_with_a_run_in_it_is_not_overwritten(tiny, tmp_path: Path):
    tiny.tiny_trainer(tmp_path).fit()
    with pytest.raises(InputError, match="holds a run of 12 steps already; resume it"):
        tiny.tiny_trainer(tmp_path)


def test_resuming_needs_a_run(tiny, tmp_path: Path):
    with pytest.raises(InputError, match="nothing to resume"):
        tiny.tiny_trainer(tmp_path / "typo", resume=True)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tiny, metrics, tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "loss": 1.0}\n{"step": 6, "lo')
    tiny.tiny_trainer(tmp_path, resume=True).fit()
    assert [line["step"] for line in metrics(tmp_path)] == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 1"),
        ({"batch_size": 3}, "global batch 3"),
        ({"width": 8}, "trunk.weight"),
    ],
)
def test_resuming_another_run_is_refused(tiny, tmp_path: Path, change, words):
    tiny.tiny_trainer(tmp_path).fit()
    with pytest.raises(InputError, match=words):
        tiny.tiny_trainer(tmp_path, resume=True, **change)


def test_what_a_task_holds_fast_is_kept_through_resuming(tiny, tmp_path: Path):
    known = {"backbone_weights": "abc", "timesteps": [0.1, 0.7]}
    tiny.tiny_trainer(tmp_path, identity=known).fit()
    other = {**known, "timesteps": [0.2, 0.7]}
    with pytest.raises(InputError, match=r"with timesteps \[0.2, 0.7\].*started with \[0.1, 0.7\]"):
        tiny.tiny_trainer(tmp_path, identity=other, resume=True)
    assert tiny.tiny_trainer(tmp_path, steps=13, identity=known, resume=True).fit().step == 13


def test_a_checkpoint_that_does_not_know_what_must_be_kept_goes_on(tiny, tmp_path: Path):
    tiny.tiny_trainer(tmp_path).fit()
    known = {"backbone_weights": "abc"}
    tiny.tiny_trainer(tmp_path, steps=13, identity=known, resume=True).fit()
    with pytest.raises(InputError, match="backbone weights xyz"):
        tiny.tiny_trainer(tmp_path, identity={"backbone_weights": "xyz"}, resume=True)


def test_the_loss_of_a_group_moves_it_at_its_own_rate(tiny, tmp_path: Path):
    trainer = tiny.tiny_trainer(tmp_path, steps=1, warmup_steps=0, lr_factors={"head": 0.5})
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.fit()
    moved = {n: (p - before[n]).abs().max().item() for n, p in trainer.model.named_parameters()}
    # Adam's first step has the size of the learning rate; the decay adds lr x 0.01 x weight
    assert moved["trunk.bias"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["head.bias"] == pytest.approx(0.5e-2, rel=1e-3)


def test_rates_for_parameters_that_are_not_there_are_refused(tiny, tmp_path: Path):
    with pytest.raises(ValueError, match="no trainable parameter starts with"):
        tiny.tiny_trainer(tmp_path, lr_factors={"decoder": 0.5})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"steps": 0}, "train.steps is 0: it must be 1 or more"),
        ({"lr": float("nan")}, "train.lr is nan: it must be finite and 0 or more"),
        ({"lr": float("inf")}, "train.lr is inf: it must be finite and 0 or more"),
        ({"ema_decay": 1.0}, "train.ema_decay"),
    ],
)
def test_settings_out_of_range_are_refused(setting, words):
    with pytest.raises(InputError, match=words):
        TrainConfig(**setting)
