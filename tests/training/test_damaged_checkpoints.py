"""A checkpoint that is not as it was written is found, by whatever opens it."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmdiff_video.errors import InputError
from mmdiff_video.training import TrainConfig, checkpoints, load_model
from mmdiff_video.training.checkpoint import load_moments, load_state, save_checkpoint

TENSORS = ("model", "ema", "optimizer")


class Net(nn.Module):
    """Two layers, and a parameter that nothing reaches."""

    def __init__(self, bias: bool = True):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3, bias=bias)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def saved(run: Path, step: int = 5, **state) -> Path:
    """Write the checkpoint of a step that moved the weights."""
    model = Net()
    optimizer = TrainConfig().make_optimizer(model, {})
    model(torch.randn(4, 3)).square().mean().backward()
    optimizer.step()
    known = {"seed": 0, "usable": 8, "skipped": {}, "window": {"loss": [0.5, 4]}, **state}
    save_checkpoint(run, step, model, copy.deepcopy(model), optimizer, known, keep=9)
    return checkpoints(run)[-1]


def open_all(run: Path) -> None:
    """Read every file of the newest checkpoint, as resuming and evaluating do."""
    model = Net()
    load_model(run, model, ema=True)
    load_model(run, model, ema=False)
    load_moments(checkpoints(run)[-1], TrainConfig().make_optimizer(model, {}))


def as_version_0_1_wrote_it(checkpoint: Path, change: Callable[[dict], object] = dict) -> None:
    """Take the checksums off, let all parameters have moments, and change those."""
    for name in TENSORS:
        tensors = load_file(checkpoint / f"{name}.safetensors")
        if name == "optimizer":
            for slot, value in (("step", torch.tensor(1.0)), ("exp_avg", torch.zeros(2))):
                tensors[f"{slot}.unused"] = value
            tensors["exp_avg_sq.unused"] = torch.zeros(2)
            change(tensors)
        save_file(tensors, checkpoint / f"{name}.safetensors")
    state = json.loads((checkpoint / "state.json").read_text())
    for key in ("checksum", "without_moments"):
        del state[key]
    (checkpoint / "state.json").write_text(json.dumps(state))


def test_a_whole_one_opens_and_has_no_random_part(tmp_path: Path):
    torch.manual_seed(0)
    first = saved(tmp_path / "a")
    torch.manual_seed(0)
    second = saved(tmp_path / "b")
    open_all(tmp_path / "a")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
def test_a_flipped_bit_of_the_tensors_is_damage(tmp_path: Path, name: str, place: float):
    file = saved(tmp_path) / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"step-000005.* is damaged \(.*restore it .* or delete"):
        open_all(tmp_path)


def test_every_flipped_bit_of_the_state_is_damage_or_changes_nothing(tmp_path: Path):
    checkpoint = saved(tmp_path)
    whole, file = load_state(checkpoint), checkpoint / "state.json"
    content = file.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x04
        file.write_bytes(changed)
        try:
            open_all(tmp_path)
        except InputError as error:
            assert "damaged" in str(error), place  # noqa: PT017
        else:
            assert load_state(checkpoint) == whole, place


@pytest.mark.parametrize(
    "state",
    ["", "[]", "3", "{}", '{"step": "5"}', '{"step": 4}', '{"step": true}', "\udc80", "[" * 9999],
)
def test_a_state_that_is_none_is_damage(tmp_path: Path, state: str):
    file = saved(tmp_path) / "state.json"
    file.write_bytes(state.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="damaged"):
        load_state(file.parent)


@pytest.mark.parametrize("name", [*(f"{n}.safetensors" for n in TENSORS), "state.json"])
def test_files_of_different_steps_are_no_checkpoint(tmp_path: Path, name: str):
    shutil.copy(saved(tmp_path, 4) / name, saved(tmp_path, 5) / name)
    with pytest.raises(InputError, match="damaged"):
        open_all(tmp_path)


@pytest.mark.parametrize("name", [*(f"{n}.safetensors" for n in TENSORS), "state.json"])
def test_a_missing_file_is_damage(tmp_path: Path, name: str):
    (saved(tmp_path) / name).unlink()
    with pytest.raises(InputError, match="damaged"):
        open_all(tmp_path)


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_that_another_program_wrote_anew_is_damage(tmp_path: Path, name: str):
    file = saved(tmp_path) / f"{name}.safetensors"
    save_file(load_file(file), file)
    with pytest.raises(InputError, match="are of different checkpoints"):
        open_all(tmp_path)


def test_version_0_1_wrote_no_checksums_and_is_opened(tmp_path: Path):
    as_version_0_1_wrote_it(saved(tmp_path))
    open_all(tmp_path)


def without(*starts: str) -> Callable[[dict], None]:
    def change(moments: dict) -> None:
        for key in [key for key in moments if key.startswith(starts)]:
            del moments[key]

    return change


def with_one(key: str, value: Tensor) -> Callable[[dict], None]:
    return lambda moments: moments.update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without(""), r"step of '.*' is absent"),
        (without("exp_avg.", "exp_avg_sq.", "step."), "is absent"),
        (without("step."), "step of '.*' is absent"),
        (without("exp_avg."), "exp_avg of '.*' is absent"),
        (without("exp_avg_sq.second.bias"), "exp_avg_sq of 'second.bias' is absent"),
        (with_one("exp_avg.first.weight", torch.zeros(3, 4)), r"'first.weight' is \[3, 4\]"),
        (with_one("exp_avg.first.bias", torch.zeros(3, dtype=torch.int64)), r"is \[3\] int64"),
        (with_one("exp_avg_sq.first.bias", torch.zeros(3).half()), r"is \[3\] float16"),
        (with_one("step.first.bias", torch.ones(1)), r"step of 'first.bias' is \[1\]"),
    ],
)
def test_moments_that_are_gone_or_of_another_form_are_not_resumed_from(
    tmp_path: Path, change: Callable[[dict], None], words: str
):
    as_version_0_1_wrote_it(saved(tmp_path), change)
    with pytest.raises(InputError, match=f"damaged .*{words}"):
        open_all(tmp_path)


def test_moments_of_another_kind_are_of_another_version(tmp_path: Path):
    """As of one that gave some of these weights to another kind of update."""

    def change(moments: dict) -> None:
        moments["momentum.first.weight"] = moments.pop("exp_avg.first.weight")

    as_version_0_1_wrote_it(saved(tmp_path), change)
    with pytest.raises(InputError, match="treated some parameters otherwise"):
        open_all(tmp_path)


def test_before_the_first_sample_there_are_no_moments(tmp_path: Path):
    as_version_0_1_wrote_it(saved(tmp_path, usable=0), without(""))
    open_all(tmp_path)


@pytest.mark.parametrize("ema", [True, False])
def test_weights_of_another_type_are_of_another_model(tmp_path: Path, ema: bool):
    saved(tmp_path)
    with pytest.raises(InputError, match=r"tensor '.*' is \[2\] in .* \[2\] float64 in the"):
        load_model(tmp_path, Net().double(), ema=ema)


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch):
    checkpoint = saved(tmp_path)

    def refuse(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("mmdiff_video.training.checkpoint.load_tensors", refuse)
    with pytest.raises(PermissionError):
        load_model(tmp_path, Net())
    monkeypatch.setattr("mmdiff_video.training.checkpoint.read_text", refuse)
    with pytest.raises(PermissionError):
        load_state(checkpoint)
