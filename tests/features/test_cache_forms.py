import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.errors import InputError
from mmdiff_video.features.cache_forms import cache_form


def features(seed: int, spread: float) -> torch.Tensor:
    """[T, C, F, H, W] whose channels differ in size by many orders."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 6, 1, 3, 4, generator=generator)
    return values * torch.logspace(-spread, spread, 6)[:, None, None, None]


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 6))
def test_fp8_keeps_to_its_stated_tolerance(seed: int, spread: float) -> None:
    x = features(seed, spread)
    form = cache_form("fp8")
    packed = form.pack("block.0", x)
    assert packed["maps.block.0"].dtype == torch.float8_e4m3fn
    back = form.unpack("block.0", packed)
    largest = x.abs().amax((2, 3, 4), keepdim=True)
    assert ((back - x).abs() <= torch.maximum(x.abs() / 16, largest * 2.2e-6) * 1.0001).all()
    # the channel's largest value is exact
    torch.testing.assert_close(back.abs().amax((2, 3, 4), keepdim=True), largest)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_bf16_is_exact_for_what_is_bf16(seed: int) -> None:
    x = features(seed, 6).bfloat16()
    form = cache_form("bf16")
    assert torch.equal(form.unpack("block.0", form.pack("block.0", x)), x)


@pytest.mark.parametrize("name", ["bf16", "fp8"])
def test_size_is_as_told_and_taps_keep_apart(name: str) -> None:
    form = cache_form(name)
    one, two = features(0, 2), features(1, 2)
    packed = form.pack("block.1", one) | form.pack("block.11", two)
    assert sum(t.nbytes for t in packed.values()) == 2 * form.nbytes(2, 6, 12)
    torch.testing.assert_close(form.unpack("block.11", packed).float(), two, rtol=0.07, atol=1e-3)


def test_silent_channels_stay_silent() -> None:
    form = cache_form("fp8")
    assert not form.unpack("a.0", form.pack("a.0", torch.zeros(1, 2, 1, 2, 2))).any()


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'fp8'"):
        cache_form("fp9")
