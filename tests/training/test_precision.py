"""When training computes in bf16."""

import pytest
import torch

from mmdiff_video.training import precision
from mmdiff_video.training.precision import cpu_bf16_gain, takes_bf16

CPU = torch.device("cpu")


def test_what_is_asked_for_is_done():
    assert takes_bf16("bf16", CPU)
    assert not takes_bf16("fp32", CPU)


@pytest.mark.parametrize(("gain", "taken"), [(0.0, False), (0.5, False), (1.0, False), (9.0, True)])
def test_auto_takes_bf16_on_a_cpu_that_is_faster_in_it(monkeypatch, gain: float, taken: bool):
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda: gain)
    assert takes_bf16("auto", CPU) == taken


def test_the_gain_is_measured_where_there_are_instructions_and_once(monkeypatch):
    instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert (cpu_bf16_gain() > 0) == instructions
    assert cpu_bf16_gain() == cpu_bf16_gain()
    cpu_bf16_gain.cache_clear()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert cpu_bf16_gain() == 0
    cpu_bf16_gain.cache_clear()
