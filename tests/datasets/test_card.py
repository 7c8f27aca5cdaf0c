import dataclasses

import pytest

from mmdiff_video.datasets.clips.card import card_names, load_card
from mmdiff_video.datasets.loading import CLIP_READERS, load_split
from mmdiff_video.errors import InputError


@pytest.mark.parametrize("name", card_names())
def test_shipped_cards_load_and_name_a_reader(name):
    card = load_card(name)
    assert card.name == name
    assert card.reader in CLIP_READERS
    assert {"train", "test"} <= set(card.splits)


def test_re10k_card_has_the_papers_split():
    assert load_card("re10k").splits == {"train": 1000, "test": 200}


def test_unknown_card_lists_the_valid_ones():
    with pytest.raises(InputError, match=r"did you mean 're10k'.*rooms"):
        load_card("re10")


@pytest.mark.parametrize(
    "wrong",
    [
        {"world_scale": "feet"},
        {"near": 2.0, "far": 1.0},
        {"min_span": 9, "max_span": 8},
        {"scale_cap": 0.0},
        {"splits": {}},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(InputError, match="dataset card 're10k'"):
        dataclasses.replace(load_card("re10k"), **wrong)


def test_unknown_split_is_refused(rooms):
    with pytest.raises(InputError, match=r"unknown split 'trian'.*train"):
        load_split(load_card("rooms"), rooms, "trian")


def test_unknown_reader_is_refused(rooms):
    card = dataclasses.replace(load_card("rooms"), reader="re11k")
    with pytest.raises(InputError, match="unknown reader 're11k'"):
        load_split(card, rooms, "train")
