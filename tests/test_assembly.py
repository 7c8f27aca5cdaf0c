"""A model is built only where its weights fit into the memory."""

import pytest
import torch
from torch import nn

from mmdiff_video.assembly import build_seeded
from mmdiff_video.dense.setup import resolve_dense_config, set_up_dense
from mmdiff_video.errors import InputError
from mmdiff_video.features.aggregators import AGGREGATORS
from mmdiff_video.nvs.setup import resolve_config, set_up

DECODER = ["decoder.width=16", "decoder.heads=2", "decoder.depth=1"]


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_seeded(lambda: nn.Linear(3, 2), 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(build_seeded(lambda: nn.Linear(3, 2), 1).weight, first.weight)
    assert not torch.equal(build_seeded(lambda: nn.Linear(3, 2), 2).weight, first.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(10**7, 10**7),
        lambda: nn.Linear(2**40, 2**40),
        lambda: nn.Sequential(*(nn.Linear(2**18, 2**18) for _ in range(10**9))),
    ],
    ids=["large", "too large to count", "many"],
)
def test_a_model_larger_than_the_memory_is_refused(make):
    with pytest.raises(InputError, match="the model's weights"):
        build_seeded(make, 0)


def test_other_mistakes_while_building_stay_what_they_are():
    with pytest.raises(TypeError, match="missing"):
        build_seeded(lambda: nn.Linear(3), 0)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("aggregation", AGGREGATORS)
def test_every_model_can_be_measured_before_it_is_built(nano_wan, aggregation: str):
    small = ["aggregator.width=16", f"aggregation={aggregation}"]
    set_up(resolve_config(None, [*small, *DECODER]), nano_wan)
    for head in ("deeplab", "dpt"):
        config = resolve_dense_config(None, [*small, "task=depth", f"head={head}"])
        set_up_dense(config, None, nano_wan)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decoder.width=100000000", "the model's weights"),
        ("decoder.width=1000000000000", "the model's weights"),
        ("decoder.depth=1000000000", "decoder depth must be at most 1000"),
        ("aggregator.depth=1000000000", "aggregator.depth is 1000000000"),
        ("aggregator.width=1000000000", "the model's weights"),
        ("data.height=1000000000", "take"),
        ("data.frames=1000000001", "take"),
    ],
)
def test_settings_beyond_the_memory_are_refused(nano_wan, override: str, message: str):
    with pytest.raises(InputError, match=message):
        set_up(resolve_config(None, ["decoder.heads=2", override]), nano_wan)


def test_a_batch_beyond_the_memory_is_refused(nano_wan):
    source = set_up(resolve_config(None, DECODER), nano_wan).source
    source.check_memory(17, 128, 128, batch=2)
    with pytest.raises(InputError, match="a batch of 1000000000 samples of 17 x 128 x 128"):
        source.check_memory(17, 128, 128, batch=10**9)
