import pytest
import torch

from mmdiff_video.dense.heads import (
    HEADS,
    DeepLabConfig,
    DPTConfig,
    build_head,
    stage_layers,
)
from mmdiff_video.errors import InputError

SMALL = {
    "deeplab": DeepLabConfig(width=8, low_width=4, rates=(1, 2)),
    "dpt": DPTConfig(width=8, stages=(4, 6, 8, 10)),
}
ENLARGES = {"deeplab": 4, "dpt": 16}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("layers", [1, 3, 4, 6])
def test_heads_take_any_number_of_layers_on_grids_that_are_not_square(name, layers):
    channels = [5 + i for i in range(layers)]
    head = build_head(name, **SMALL, channels=channels, outputs=3)
    maps = [torch.randn(2, c, 3, 5, requires_grad=True) for c in channels]
    out = head(maps)
    assert out.shape == (2, 3, 3 * ENLARGES[name], 5 * ENLARGES[name])
    out.square().sum().backward()
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_a_picture_is_decoded_alike_whatever_shares_its_batch(name):
    head = build_head(name, **SMALL, channels=[6, 6], outputs=2).eval()
    maps = [torch.randn(3, 6, 4, 4) for _ in range(2)]
    alone = head([m[1:2] for m in maps])
    torch.testing.assert_close(head(maps)[1:2], alone, atol=1e-5, rtol=1e-4)


def test_stages_use_every_layer_shallow_ones_for_fine_maps():
    assert stage_layers(4) == [[0], [1], [2], [3]]
    assert stage_layers(1) == [[0]] * 4
    assert stage_layers(2) == [[0], [0], [1], [1]]
    for layers in range(1, 20):
        shared = stage_layers(layers)
        assert {i for stage in shared for i in stage} == set(range(layers))
        assert [stage[0] for stage in shared] == sorted(stage[0] for stage in shared)


def test_heads_together_have_the_papers_36_million_parameters_at_flux_width():
    """Four layers fused to 768 channels; 21 classes, depth, saliency (paper Sec. 3.4)."""
    total = 0
    with torch.device("meta"):
        for name, outputs in (("deeplab", 21), ("dpt", 1), ("dpt", 1)):
            head = build_head(
                name,
                deeplab=DeepLabConfig(),
                dpt=DPTConfig(),
                channels=[768] * 4,
                outputs=outputs,
            )
            total += sum(p.numel() for p in head.parameters())
    assert total == pytest.approx(36e6, rel=0.2)


def test_deeplab_sees_beyond_a_pixels_neighbourhood():
    """The atrous branches reach as far as their rates, the pooled one everywhere."""
    head = build_head("deeplab", **SMALL, channels=[4], outputs=1).eval()
    maps = torch.randn(1, 4, 16, 16, requires_grad=True)
    head([maps])[0, 0, 2, 2].backward()
    assert maps.grad is not None
    assert maps.grad[0, :, 15, 15].abs().sum() > 0


def test_unknown_heads_and_impossible_settings_are_refused():
    with pytest.raises(InputError, match=r"unknown head 'dtp': did you mean 'dpt'"):
        build_head("dtp", **SMALL, channels=[4], outputs=1)
    with pytest.raises(InputError, match="four widths"):
        DPTConfig(stages=(4, 8, 16))  # type: ignore[arg-type]
