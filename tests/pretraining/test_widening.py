from typing import Any

import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.wan_vae import decode_clip, encode_clip
from mmdiff_video.pretraining.widening import widen

PATCHED: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 8,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "latents_mean": [0.5] * 8,
    "latents_std": [2.0] * 8,
}
WAN_2_1: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 8,
    "dim_mult": [1, 2, 4, 4],
    "latents_mean": [0.5] * 8,
    "latents_std": [2.0] * 8,
}


@pytest.mark.parametrize("architecture", [PATCHED, WAN_2_1], ids=["patched", "wan-2.1"])
@pytest.mark.parametrize(
    ("encoder_factor", "decoder_factor"), [(1, 2), (1, 3), (2, 1), (3, 1), (2, 2)]
)
def test_a_widened_vae_computes_alike_and_its_copies_learn_apart(
    architecture, encoder_factor: int, decoder_factor: int
):
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    narrow = AutoencoderKLWan(**architecture).double()
    wider: dict[str, Any] = {
        "base_dim": 4 * encoder_factor,
        "decoder_base_dim": 4 * decoder_factor,
        "latents_mean": [0.0] * 8,
    }
    wide = AutoencoderKLWan(**architecture | wider).double()
    widen(narrow, wide)
    video = torch.rand(1, 3, 5, 16, 16).double() * 2 - 1
    encoded = encode_clip(wide, video)
    assert torch.allclose(encoded, encode_clip(narrow, video), atol=1e-10)
    latent = narrow.encode(video).latent_dist.mode()
    decoded = decode_clip(wide, latent)
    assert torch.allclose(decoded, decode_clip(narrow, latent), atol=1e-10)
    assert wide.config.latents_mean == [0.5] * 8

    (encoded.square().mean() + decoded.square().mean()).backward()
    gradients = {name: parameter.grad for name, parameter in wide.named_parameters()}
    for part, factor in (("encoder", encoder_factor), ("decoder", decoder_factor)):
        gradient = gradients[f"{part}.mid_block.resnets.0.conv1.weight"]
        assert gradient is not None
        copies = gradient.chunk(factor)
        if factor > 1:
            assert (copies[0] - copies[1]).abs().mean() > 0.1 * copies[0].abs().mean()


def test_a_vae_is_widened_to_multiples_of_its_widths_only():
    from diffusers import AutoencoderKLWan

    narrow = AutoencoderKLWan(**PATCHED)
    others: list[dict[str, Any]] = [
        {"decoder_base_dim": 6},
        {"z_dim": 16},
        {"base_dim": 6},
        {"base_dim": 2},
    ]
    for changes in others:
        with pytest.raises(InputError, match="multiples of its base_dim and decoder_base_dim"):
            widen(narrow, AutoencoderKLWan(**PATCHED | changes))
