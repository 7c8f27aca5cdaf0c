"""The sentence about a name that is in no table."""

import pytest

from mmdiff_video.errors import unknown_name


@pytest.mark.parametrize(
    ("name", "nearest"), [("room", "rooms"), ("re20k", "re10k"), ("re01k", "re10k")]
)
def test_a_typo_is_answered_with_the_name_that_was_meant(name: str, nearest: str):
    assert f"unknown data set '{name}': did you mean '{nearest}'? valid: rooms, re10k" == str(
        unknown_name("data set", name, ["rooms", "re10k"])
    )


@pytest.mark.parametrize("name", ["foo", "coco", ""])
def test_a_name_that_is_like_no_other_is_answered_with_the_list_alone(name: str):
    error = unknown_name("data set", name, ["rooms", "re10k"])
    assert str(error) == f"unknown data set '{name}': valid: rooms, re10k"
