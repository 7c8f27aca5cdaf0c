"""The weights of a joint run's tasks: a function of config and data, and kept on going on."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from mmdiff_video.datasets.pictures.views import DenseSample
from mmdiff_video.dense.joint import measured_weights, settled_weights
from mmdiff_video.errors import InputError


class Views:
    """Random pictures."""

    def __len__(self) -> int:
        return 5

    def sample(self, index: int, epoch: int) -> DenseSample:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 4, 4, generator=generator)
        valid = torch.ones(4, 4, dtype=torch.bool)
        return DenseSample(key=str(index), image=image, target=image[:1], valid=valid, caption=None)


@dataclass
class Task:
    """A member of a joint run whose loss leaves something to chance."""

    factor: float

    def __post_init__(self):
        self.views = Views()
        self.setup = SimpleNamespace(backbone=SimpleNamespace(device="cpu"))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return (model(batch.images) - torch.rand(1)).abs().mean() * self.factor


MEMBERS = cast(Any, {"seg": Task(1.0), "depth": Task(4.0)})


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1))


def test_weights_come_from_config_and_data_alone():
    found = []
    for seed in (1, 2):
        model = net()
        before = {name: t.clone() for name, t in model.state_dict().items()}
        torch.manual_seed(seed)  # whatever ran before
        state = torch.get_rng_state()
        found.append(measured_weights(MEMBERS, model, seed=0))
        assert torch.equal(torch.get_rng_state(), state)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name
    assert found[0] == found[1]
    assert sum(found[0].values()) == pytest.approx(2)
    assert found[0]["seg"] == pytest.approx(4 * found[0]["depth"])


def run_with(folder: Path, weights: object) -> Path:
    (folder / "config.yaml").write_text("task: seg\n")
    details = {"tasks": ["seg", "depth"], "task_weights": weights}
    (folder / "run.json").write_text(json.dumps({"kind": "joint", "details": details}))
    return folder


def test_a_run_that_goes_on_keeps_the_weights_that_it_began_with(tmp_path: Path):
    kept = {"seg": 0.3, "depth": 1.7}
    assert settled_weights(MEMBERS, net(), 0, run_with(tmp_path, kept)) == kept
    assert settled_weights(MEMBERS, net(), 0, None) == measured_weights(MEMBERS, net(), 0)


@pytest.mark.parametrize("weights", [{}, {"seg": 1.0}, {"seg": 1.0, "depth": 1.0, "normals": 1.0}])
def test_weights_of_other_tasks_are_measured_anew(tmp_path: Path, weights: dict):
    found = settled_weights(MEMBERS, net(), 0, run_with(tmp_path, weights))
    assert found == measured_weights(MEMBERS, net(), 0)


@pytest.mark.parametrize(
    "weights", [[1, 2], {"seg": "x", "depth": 1}, {"seg": -1, "depth": 1}, {"seg": None}, "x"]
)
def test_weights_that_are_none_are_damage(tmp_path: Path, weights: object):
    with pytest.raises(InputError, match="is damaged"):
        settled_weights(MEMBERS, net(), 0, run_with(tmp_path, weights))
