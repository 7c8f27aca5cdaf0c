"""The parts of the loop: order of samples, averages, gradients, checkpoints."""

import copy
import json
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmdiff_video.errors import InputError
from mmdiff_video.training import TrainConfig, checkpoints, load_model
from mmdiff_video.training.checkpoint import load_moments, save_checkpoint
from mmdiff_video.training.data import Shares, sample_at
from mmdiff_video.training.ema import make_ema, update_ema
from mmdiff_video.training.gradients import sum_gradients
from mmdiff_video.training.means import Means

small = st.integers(1, 5)


@given(size=st.integers(1, 40), seed=st.integers(0, 2**40), epoch=st.integers(0, 100))
def test_every_epoch_visits_every_sample_once(size, seed, epoch):
    drawn = [sample_at(epoch * size + i, size, seed) for i in range(size)]
    assert {e for _, e in drawn} == {epoch}
    assert sorted(index for index, _ in drawn) == list(range(size))


def test_epochs_and_seeds_have_their_own_order():
    orders = {
        tuple(sample_at(epoch * 30 + i, 30, seed)[0] for i in range(30))
        for epoch in range(3)
        for seed in range(3)
    }
    assert len(orders) == 9


@given(size=st.integers(1, 30), batch=small, rounds=small, processes=small, data=st.data())
def test_processes_share_out_what_one_would_read(size, batch, rounds, processes, data):
    steps = 6
    first = data.draw(st.integers(0, steps))

    def shares(process: int, processes: int, batch: int, first: int):
        return list(Shares(size, batch, rounds, processes, process, 3, first, steps))

    parts = [shares(p, processes, batch, first) for p in range(processes)]
    together = [list(chain(*forward)) for forward in zip(*parts, strict=True)]
    assert together == shares(0, 1, batch * processes, first)
    assert together == shares(0, 1, batch * processes, 0)[first * rounds :]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 8)), min_size=1, max_size=20),
    st.integers(0, 20),
)
def test_means_do_not_depend_on_how_the_samples_were_split(values, cut):
    whole, left, right = Means(), Means(), Means()
    for i, (value, weight) in enumerate(values):
        for means in (whole, left if i < cut else right):
            means.add({"loss": torch.tensor(value, dtype=torch.float64)}, weight)
    left.merge(Means(json.loads(json.dumps(right.sums))))
    weighted = sum(v * w for v, w in values) / sum(w for _, w in values)
    assert whole.means()["loss"] == pytest.approx(weighted, abs=1e-6)
    assert left.means()["loss"] == pytest.approx(weighted, abs=1e-6)


def test_a_value_that_some_forwards_lack_is_averaged_over_the_others():
    means = Means()
    means.add({"loss": 1.0, "depth": 4.0}, 1)
    means.add({"loss": 3.0}, 3)
    assert means.means() == {"loss": 2.5, "depth": 4.0}


def test_the_average_follows_its_formula_and_copies_buffers():
    model = nn.BatchNorm1d(3)
    ema = make_ema(model)
    expected = None
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.uniform_(-1, 1)
            model(torch.randn(5, 3))
        update_ema(ema, model, 0.8, step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = (
            model.weight.detach().clone()
            if expected is None
            else decay * expected + (1 - decay) * model.weight.detach()
        )
        torch.testing.assert_close(ema.module.weight, expected)
        assert torch.equal(ema.module.running_mean, model.running_mean)
        assert ema.module.num_batches_tracked == step


def test_gradients_nobody_has_stay_absent():
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    used.grad = torch.tensor([1.0, 2.0, 3.0])
    sum_gradients([used, unused])
    assert used.grad.tolist() == [1.0, 2.0, 3.0]
    assert unused.grad is None


class Tied(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.second(self.first(x))


def _save(run: Path, step: int, model: nn.Module, keep: int = 2):
    optimizer = TrainConfig().make_optimizer(model, {})
    model(torch.randn(4, 3)).square().mean().backward()
    optimizer.step()
    save_checkpoint(run, step, model, copy.deepcopy(model), optimizer, {"seed": 0}, keep)
    return optimizer


def test_weights_and_moments_come_back_exactly(tmp_path: Path):
    model = Tied()
    optimizer = _save(tmp_path, 5, model)
    other = Tied()
    assert load_model(tmp_path, other, ema=False) == 5
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name

    restored = TrainConfig().make_optimizer(other, {})
    load_moments(checkpoints(tmp_path)[-1], restored)
    expected, found = optimizer.state_dict()["state"], restored.state_dict()["state"]
    assert found.keys() == expected.keys()  # the unused parameter has none
    for index, slots in expected.items():
        for slot, tensor in slots.items():
            assert torch.equal(tensor, found[index][slot]), slot


def test_only_the_newest_checkpoints_stay(tmp_path: Path):
    model = Tied()
    order = [7, 100, 1_000_000, 2_000_000]
    for step in order:
        _save(tmp_path, step, model, keep=3)
    assert [p.name for p in checkpoints(tmp_path)] == [
        "step-000100",
        "step-1000000",
        "step-2000000",
    ]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_another_architecture_is_named_by_its_first_tensor(tmp_path: Path):
    _save(tmp_path, 1, Tied())
    with pytest.raises(
        InputError, match=r"tensor 'first.weight' is \[3, 3\] in the checkpoint and \[4, 4\] in the"
    ):
        load_model(tmp_path, Tied(4))
    with pytest.raises(InputError, match=r"tensor '0.weight' is absent in the checkpoint"):
        load_model(tmp_path, nn.Sequential(nn.Linear(3, 3)))


def test_a_folder_without_checkpoints_says_so(tmp_path: Path):
    with pytest.raises(InputError, match="no checkpoint in this folder"):
        load_model(tmp_path, Tied())
