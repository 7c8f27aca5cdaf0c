"""A tiny member of every family of the table, built and loaded through the public door."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_cards import ROWS

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.backbones.nano.build import build


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by module of the table; beside flux (distilled, as -dev) schnell (no guidance)."""
    root = tmp_path_factory.mktemp("tiny")
    cards = {name: family.tiny() for name, family in ROWS.items()}
    flux = cards["flux"]
    cards["schnell"] = replace(
        flux,
        transformer=flux.transformer | {"guidance_embeds": False},
        defaults=replace(flux.defaults, extract_guidance=None, guidance=0.0),
    )
    for name, card in cards.items():
        build(card, root / name)
    return {name: root / name for name in cards}


@pytest.fixture(scope="session")
def tiny(tiny_folders: dict[str, Path]) -> dict[str, Backbone]:
    return {name: load_backbone(folder, device="cpu") for name, folder in tiny_folders.items()}


@pytest.fixture(params=ROWS)
def backbone(request: pytest.FixtureRequest, tiny: dict[str, Backbone]) -> Backbone:
    """One member of each family: the contract holds for all of them."""
    return tiny[request.param]


@pytest.fixture
def copied(tiny_folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Give a tiny folder of a family that a test may spoil."""
    return lambda family: Path(shutil.copytree(tiny_folders[family], tmp_path / "model"))
