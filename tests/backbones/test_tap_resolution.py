import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.backbones.taps import resolve_taps, spread
from mmdiff_video.errors import InputError

FLUX = [TapSpec(f"double.{i}", "double", i, 8) for i in range(19)] + [
    TapSpec(f"single.{i}", "single", i, 8) for i in range(38)
]


def names(taps: list) -> list[str]:
    return [spec.name for spec in resolve_taps(taps, FLUX, "single")]


def test_names_and_short_forms() -> None:
    assert names(["single.15", "double.12"]) == ["double.12", "single.15"]
    assert names([4, "15", "-1"]) == ["single.4", "single.15", "single.37"]
    assert names(["last-3"]) == ["single.35", "single.36", "single.37"]


def test_duplicates_count_once() -> None:
    assert names(["single.37", -1, "last-1", 37]) == ["single.37"]


@pytest.mark.parametrize(
    "tap",
    ["double.19", "block.0", 38, -39, "last-0", "last-39", "middle", "", True, "single.-1", 1.5],
)
def test_unknown_tap_lists_the_valid_ones(tap: object) -> None:
    with pytest.raises(InputError) as error:
        names([tap])
    assert repr(tap).strip("'") in str(error.value)
    assert "double.0 to double.18, single.0 to single.37" in str(error.value)
    assert "0 to 37" in str(error.value)


def test_no_taps_are_no_taps() -> None:
    assert names([]) == []


def test_a_bare_string_is_refused() -> None:
    with pytest.raises(InputError, match="list"):
        resolve_taps("single.4", FLUX, "single")


@given(st.lists(st.integers(-38, 37), min_size=1))
def test_indices_behave_as_in_a_list_and_come_in_forward_order(taps: list[int]) -> None:
    expected = sorted({tap % 38 for tap in taps})
    assert names(taps) == [f"single.{i}" for i in expected]
    assert names([str(tap) for tap in taps]) == names(taps)


@given(st.lists(st.sampled_from([spec.name for spec in FLUX]), min_size=1))
def test_names_resolve_to_themselves(taps: list[str]) -> None:
    assert set(names(taps)) == set(taps)


@given(st.integers(1, 8), st.integers(1, 60))
def test_spread_is_even_and_ends_on_the_last_block(count: int, blocks: int) -> None:
    chosen = spread(count, blocks)
    assert len(chosen) == min(count, blocks)
    assert chosen[-1] == blocks - 1
    gaps = [b - a for a, b in zip([-1, *chosen], chosen, strict=False)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1
