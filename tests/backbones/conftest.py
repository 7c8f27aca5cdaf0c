"""Tiny members of both families, made by the nano builder and loaded through the public door."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.backbones.cards import BackboneCard, load_card
from mmdiff_video.backbones.nano import build

TINY_WAN: dict[str, dict[str, Any]] = {
    "transformer": {
        "num_layers": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "text_dim": 32,
        "ffn_dim": 64,
        "freq_dim": 32,
    },
    "vae": {"base_dim": 4},
    "defaults": {"taps": ("block.0", "block.2"), "height": 32, "width": 48, "frames": 5},
}
TINY_FLUX: dict[str, dict[str, Any]] = {
    "transformer": {
        "num_layers": 2,
        "num_single_layers": 3,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "axes_dims_rope": [8, 8, 8],
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
    },
    "vae": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4},
    "defaults": {"taps": ("double.1", "single.0", "single.1"), "height": 32, "width": 48},
}


def tiny_card(name: str, changes: dict[str, dict[str, Any]]) -> BackboneCard:
    card = load_card(name)
    return replace(
        card,
        transformer=card.transformer | changes["transformer"],
        vae=card.vae | changes["vae"],
        defaults=replace(card.defaults, text_tokens=16, steps=12, **changes["defaults"]),
        build=card.build | {"text_layers": 1},
    )


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
