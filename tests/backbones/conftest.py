"""Tiny members of both families, made by the nano builder and loaded through the public door."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_cards import TINY_FLUX, TINY_WAN, tiny_card

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.backbones.nano.build import build


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by family: wan, flux (guidance-distilled, as -dev) and schnell (no guidance)."""
    root = tmp_path_factory.mktemp("tiny")
    flux = tiny_card("nano-flux", TINY_FLUX)
    schnell = replace(
        flux,
        transformer=flux.transformer | {"guidance_embeds": False},
        defaults=replace(flux.defaults, extract_guidance=None, guidance=0.0),
    )
    cards = {"wan": tiny_card("nano-wan", TINY_WAN), "flux": flux, "schnell": schnell}
    for name, card in cards.items():
        build(card, root / name)
    return {name: root / name for name in cards}


@pytest.fixture(scope="session")
def tiny(tiny_folders: dict[str, Path]) -> dict[str, Backbone]:
    return {name: load_backbone(folder, device="cpu") for name, folder in tiny_folders.items()}


@pytest.fixture(params=["wan", "flux"])
def backbone(request: pytest.FixtureRequest, tiny: dict[str, Backbone]) -> Backbone:
    return tiny[request.param]
