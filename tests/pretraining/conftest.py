"""Discs in the place of rooms and tiny architectures in the place of the nano cards."""

import pytest
from disc_clips import Discs
from tiny_cards import tiny_card

from mmdiff_video.pretraining import dit, export, runs, vae


@pytest.fixture
def discs(monkeypatch: pytest.MonkeyPatch) -> Discs:
    """The source that every corpus of the test is drawn by."""
    source = Discs()
    cards = {
        "nano-wan": tiny_card("nano-wan"),
        "nano-flux": tiny_card("nano-flux"),
    }
    monkeypatch.setattr(runs, "RoomSource", lambda: source)
    for module in (vae, dit, export):
        monkeypatch.setattr(module, "load_card", cards.__getitem__)
    return source
