import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.wan_vae import decode_clip
from mmdiff_video.pretraining.widening import widen_decoder

PATCHED = {
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
WAN_2_1 = {
    "base_dim": 4,
    "z_dim": 8,
    "dim_mult": [1, 2, 4, 4],
    "latents_mean": [0.5] * 8,
    "latents_std": [2.0] * 8,
}


@pytest.mark.parametrize("architecture", [PATCHED, WAN_2_1], ids=["patched", "wan-2.1"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_widened_decoder_decodes_alike_and_its_copies_learn_apart(architecture, factor: int):
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    narrow = AutoencoderKLWan(**architecture).double()
    wide = AutoencoderKLWan(
        **architecture | {"decoder_base_dim": 4 * factor, "latents_mean": [0.0] * 8}
    ).double()
    widen_decoder(narrow, wide)
    video = torch.rand(1, 3, 5, 16, 16).double() * 2 - 1
    latent = narrow.encode(video).latent_dist.mode()
    assert torch.equal(wide.encode(video).latent_dist.mode(), latent)
    decoded = decode_clip(wide, latent)
    assert torch.allclose(decoded, decode_clip(narrow, latent), atol=1e-10)
    assert wide.config.latents_mean == [0.5] * 8

    decoded.square().mean().backward()
    gradient = wide.decoder.conv_in.weight.grad
    assert gradient is not None
    copies = gradient.chunk(factor)
    assert (copies[0] - copies[1]).abs().mean() > 0.1 * copies[0].abs().mean()


def test_only_a_decoder_can_be_widened():
    from diffusers import AutoencoderKLWan

    narrow = AutoencoderKLWan(**PATCHED)
    for changes in ({"decoder_base_dim": 6}, {"z_dim": 16}, {"base_dim": 8}):
        with pytest.raises(InputError, match="multiple of its decoder_base_dim"):
            widen_decoder(narrow, AutoencoderKLWan(**PATCHED | changes))
