"""A saved model whose weights are not what was saved is not used."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import resolve_dense_config, set_up_dense
from mmdiff_video.errors import InputError


@pytest.fixture
def model(nano_wan, tiny) -> DenseModel:
    more = ["backbone.name=nano-wan-random", *tiny, "task=depth", "input=latent"]
    return DenseModel(set_up_dense(resolve_dense_config(None, more), None, nano_wan), None, 3)


@pytest.fixture
def weights(model, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved" / "model.safetensors"


def test_what_was_saved_is_what_is_opened(model, weights, nano_wan):
    opened = DenseModel.from_pretrained(weights.parent, nano_wan)
    assert opened.step == 3
    for name, tensor in model.setup.model.state_dict().items():
        assert torch.equal(opened.setup.model.state_dict()[name], tensor), name


def test_weights_of_version_0_1_have_no_checksum_and_open(weights, nano_wan):
    save_file(load_file(weights), weights)
    assert DenseModel.from_pretrained(weights.parent, nano_wan).step == 3


@pytest.mark.parametrize("place", [0.0, 0.2, 0.6, 0.999])
def test_a_flipped_bit_is_damage(weights, nano_wan, place: float):
    content = bytearray(weights.read_bytes())
    content[int(place * len(content))] ^= 0x40
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors' is damaged .*restore it"):
        DenseModel.from_pretrained(weights.parent, nano_wan)


def test_weights_that_are_cut_short_are_damage(weights, nano_wan):
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        DenseModel.from_pretrained(weights.parent, nano_wan)


def test_weights_and_facts_of_different_steps_are_damage(model, weights, nano_wan):
    """As a kill leaves them between the one and the other."""
    before = weights.read_bytes()
    replace(model, step=4).save_pretrained(weights.parent)
    DenseModel.from_pretrained(weights.parent, nano_wan)
    weights.write_bytes(before)
    with pytest.raises(InputError, match=r"of step 3, and dense.json of step 4.*--resume"):
        DenseModel.from_pretrained(weights.parent, nano_wan)


def test_weights_of_another_model_are_damage(weights, nano_wan):
    tensors = load_file(weights)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, weights)
    with pytest.raises(InputError, match="damaged or of another model"):
        DenseModel.from_pretrained(weights.parent, nano_wan)
