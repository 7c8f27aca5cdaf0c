import math

import pytest
import torch

from mmdiff_video.tasks.base import masked_mean
from mmdiff_video.tasks.depth import gradient_matching, silog
from mmdiff_video.tasks.saliency import binary_cross_entropy, soft_iou
from mmdiff_video.tasks.seg import cross_entropy

B, H, W = 2, 6, 7


@pytest.fixture
def valid() -> torch.Tensor:
    mask = torch.rand(B, H, W, generator=torch.Generator().manual_seed(0)) < 0.7
    mask[:, 0, 0] = False
    return mask


def test_what_is_invalid_counts_nowhere_even_where_it_is_infinite(valid):
    values = torch.randn(B, H, W)
    worse = torch.where(valid, values, math.inf)
    assert torch.equal(masked_mean(values, valid), masked_mean(worse, valid))
    expected = torch.stack([v[m].mean() for v, m in zip(values, valid, strict=True)])
    torch.testing.assert_close(masked_mean(values, valid), expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "silog", "gradient", "bce", "iou"])
def test_a_picture_without_truth_costs_nothing_and_breaks_nothing(loss):
    nowhere = torch.zeros(B, H, W, dtype=torch.bool)
    output = torch.randn(B, H, W, requires_grad=True)
    losses = {
        "cross_entropy": lambda: cross_entropy(
            output[:, None].expand(-1, 3, -1, -1), torch.full((B, H, W), 255), nowhere
        ),
        "silog": lambda: silog(output, nowhere, 0.85),
        "gradient": lambda: gradient_matching(output, nowhere, 3),
        "bce": lambda: binary_cross_entropy(output, torch.zeros(B, H, W), nowhere),
        "iou": lambda: soft_iou(output, torch.zeros(B, H, W), nowhere),
    }
    found = losses[loss]()
    assert found.abs().max() < 2e-3  # the root's small number
    found.sum().backward()
    assert output.grad is not None
    assert output.grad.abs().max() == 0


def test_cross_entropy_is_torchs_over_known_pixels(valid):
    scores, labels = torch.randn(B, 4, H, W), torch.randint(4, (B, H, W))
    labels[~valid] = 255
    found = cross_entropy(scores, labels, valid)
    for i in range(B):
        expected = torch.nn.functional.cross_entropy(
            scores[i : i + 1], labels[i : i + 1], ignore_index=255
        )
        torch.testing.assert_close(found[i], expected)


def test_silog_by_hand_and_its_blindness_to_scale(valid):
    error = torch.randn(B, H, W)
    found = silog(error, valid, 0.5)
    known = error[0][valid[0]]
    expected = (known.square().mean() - 0.5 * known.mean() ** 2 + 1e-6).sqrt()
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(
        silog(error, valid, 1.0), silog(error + 3, valid, 1.0), atol=1e-3, rtol=1e-3
    )
    assert (silog(error + 3, valid, 0.85) > silog(error, valid, 0.85)).all()


def test_gradient_matching_sees_slopes_not_offsets():
    everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
    flat = torch.full((1, 8, 8), 2.5)
    assert gradient_matching(flat, everywhere, 3).item() == 0
    ramp = torch.arange(8.0).expand(1, 8, 8)
    # steps of 1, 2 and 4 pixels see slopes of 1, 2 and 4
    assert gradient_matching(ramp, everywhere, 3).item() == pytest.approx(7 / 3)
    edge = torch.zeros(1, 8, 8)
    edge[:, 3, 3] = 100
    assert gradient_matching(edge, edge < 50, 1).item() == 0


def test_soft_iou_of_sure_answers():
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    everywhere = torch.ones(1, 4, 4, dtype=torch.bool)
    assert soft_iou(200 * mask - 100, mask, everywhere).item() == pytest.approx(0, abs=1e-6)
    assert soft_iou(100 - 200 * mask, mask, everywhere).item() == pytest.approx(1 - 1 / 17)
    assert soft_iou(torch.full((1, 4, 4), -100.0), 0 * mask, everywhere).item() == 0
