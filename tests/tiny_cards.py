"""Cards of nano backbones small enough to build and train in a test."""

from dataclasses import replace
from typing import Any

from mmdiff_video.backbones.cards import BackboneCard, load_card

TINY_WAN: dict[str, dict[str, Any]] = {
    "transformer": {
        "num_layers": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "text_dim": 32,
        "ffn_dim": 64,
        "freq_dim": 32,
    },
    "vae": {"base_dim": 4, "decoder_base_dim": 8},
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
