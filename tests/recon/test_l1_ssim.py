"""The fused loss against kornia in float64: values, gradients, masks, layouts, refusals."""

import re

import pytest
import torch
from kornia.metrics import ssim as kornia_ssim
from splat_scenes import instruction_sets
from torch import Tensor

from recon.losses import l1_ssim
from recon.rasterize import cpu_library

compiled = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")
both_ways = pytest.mark.parametrize(
    "library",
    [pytest.param(True, marks=compiled, id="compiled"), pytest.param(False, id="torch")],
    indirect=True,
)
KINDS = ("noise", "smooth", "flat", "white", "edges", "equal", "out of range")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(cpu_library, "unavailable", lambda: "not here")
    return request.param


def pictures(kind: str, size: tuple[int, int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A prediction and a target in float32."""
    generator = torch.Generator().manual_seed(seed)
    h, w = size[2:]
    noise = torch.randn(size, generator=generator)
    ramp = torch.linspace(0, 1, w).expand(size) * torch.linspace(0.2, 1, h)[:, None]
    if kind == "noise":
        return torch.rand(size, generator=generator), torch.rand(size, generator=generator)
    if kind == "smooth":
        return (ramp + 0.003 * noise).clamp(0, 1), ramp.clone()
    if kind == "flat":
        return torch.full(size, 0.7) + 0.001 * noise, torch.full(size, 0.7) + 0.001 * noise.flip(3)
    if kind == "white":
        return torch.ones(size) - 1e-3 * noise.abs(), torch.ones(size)
    if kind == "edges":
        return (ramp * 4 % 1 > 0.5).float(), (ramp * 4 % 1 > 0.4).float()
    if kind == "equal":
        return ramp.clone(), ramp.clone()
    return 0.5 + 0.6 * noise, 2 * ramp - 0.5


def exact(
    prediction: Tensor, target: Tensor, weight: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """[N] by kornia in float64, and the gradient of their sum."""
    leaf = prediction.double().requires_grad_()
    target = target.double()
    shown = leaf
    counts = torch.ones(prediction[:, 0].shape, dtype=torch.bool) if mask is None else mask
    shown = torch.where(counts[:, None], leaf, target)
    unlike = 1 - kornia_ssim(shown, target, 11, max_val=1.0, eps=0.0, padding="valid")
    losses = []
    for i in range(len(leaf)):
        of_pixel, of_window = counts[i], counts[i, 5:-5, 5:-5]
        l1 = (shown[i] - target[i]).abs()[:, of_pixel].mean() if of_pixel.any() else 0
        d_ssim = unlike[i][:, of_window].mean() if of_window.any() else 0
        losses.append((1 - weight) * l1 + weight * d_ssim + 0 * leaf[i].sum())
    loss = torch.stack(losses)
    loss.sum().backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def ours(prediction: Tensor, *rest) -> tuple[Tensor, Tensor]:
    leaf = prediction.detach().requires_grad_()
    loss = l1_ssim(leaf, *rest)
    loss.sum().backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def assert_close(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """To 1e-6 of the value's range, and 1e-5 of the gradient."""
    assert (found[0] - wanted[0]).abs().max() < 1e-6 * max(1, wanted[0].abs().max().item())
    assert (found[1] - wanted[1]).norm() <= 1e-5 * wanted[1].norm() + 1e-12


@compiled
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("weight", [0.2, 1.0, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_those_of_float64(monkeypatch, instruction_set, kind, weight):
    monkeypatch.setenv(cpu_library.INSTRUCTION_SET_VARIABLE, instruction_set)
    given = pictures(kind, (2, 3, 33, 41))
    assert_close(ours(*given, weight), exact(*given, weight))


@compiled
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("height", [11, 12, 21, 22, 23, 40])
@pytest.mark.parametrize("width", [11, 12, 15, 26, 27, 43])
def test_every_size(monkeypatch, instruction_set, height, width):
    monkeypatch.setenv(cpu_library.INSTRUCTION_SET_VARIABLE, instruction_set)
    given = pictures("noise", (1, 2, height, width), seed=height)
    assert_close(ours(*given), exact(*given, 0.2))


@compiled
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_bands_of_several_threads_fit_together(threads, count, images):
    threads(count)
    given = pictures("smooth", (images, 3, 200, 30))
    assert_close(ours(*given), exact(*given, 0.2))
    assert all(torch.equal(a, b) for a, b in zip(ours(*given), ours(*given), strict=True))


def mask_of(kind: str, size: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(size, dtype=torch.bool)
    if kind == "half":
        mask[..., : size[2] // 2] = True
    elif kind == "specks":
        mask = torch.rand(size, generator=generator) < 0.3
    elif kind == "border":  # no window has its middle there
        mask[:, :5] = True
    elif kind == "one image of two":
        mask[0] = True
    return mask


@both_ways
@pytest.mark.parametrize("kind", ["half", "specks", "border", "nothing", "one image of two"])
def test_masks(library, kind):
    given = pictures("noise", (2, 3, 26, 33))
    mask = mask_of(kind, (2, 26, 33))
    assert_close(ours(*given, 0.3, mask), exact(*given, 0.3, mask))


@compiled
def test_a_layout_of_any_strides_is_read_and_answered_in_kind():
    prediction, target = pictures("noise", (2, 3, 24, 31))
    wanted = exact(prediction, target, 0.2)
    rendered = prediction.movedim(1, -1).contiguous().requires_grad_()  # as an engine gives it
    l1_ssim(rendered.movedim(-1, 1), target).sum().backward()
    assert rendered.grad is not None
    assert_close((l1_ssim(prediction, target), rendered.grad.movedim(-1, 1)), wanted)
    padded = torch.zeros(2, 3, 30, 40)
    padded[..., 3:27, 4:35] = target
    assert_close(ours(prediction, padded[..., 3:27, 4:35]), wanted)
    mirrored = prediction[..., ::2], target[..., ::2]
    assert_close(ours(*mirrored), exact(*mirrored, 0.2))
    one = target[:1, :1].expand(2, 3, 24, 31)
    assert_close(ours(prediction, one), exact(prediction, one, 0.2))


@compiled
def test_each_image_has_its_own_share_of_the_gradient():
    prediction, target = pictures("noise", (3, 3, 20, 20))
    prediction.requires_grad_()
    share = torch.tensor([1.0, 0.0, -2.0])
    (l1_ssim(prediction, target) * share).sum().backward()
    assert prediction.grad is not None
    _, alone = ours(prediction, target)
    torch.testing.assert_close(prediction.grad, alone * share[:, None, None, None])


@compiled
def test_a_retained_graph_gives_the_same_again_whatever_became_of_the_first_gradient():
    prediction, target = pictures("noise", (1, 3, 20, 20))
    prediction.requires_grad_()
    loss = l1_ssim(prediction, target).sum()
    loss.backward(retain_graph=True)
    assert prediction.grad is not None
    first = prediction.grad.clone()
    prediction.grad.mul_(0)
    loss.backward(retain_graph=True)
    assert torch.equal(prediction.grad, first)
    (once_more,) = torch.autograd.grad(2 * l1_ssim(prediction, target).sum(), prediction)
    torch.testing.assert_close(once_more, 2 * first)


@compiled
def test_what_cannot_be_seen_through_a_mask_may_be_anything():
    prediction, target = pictures("noise", (1, 3, 30, 30))
    mask = torch.rand(1, 30, 30, generator=torch.Generator().manual_seed(3)) < 0.6
    wanted = ours(prediction, target, 0.2, mask)
    prediction[:, :, ~mask[0]] = torch.nan
    found = ours(prediction, target, 0.2, mask)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert not found[1][:, :, ~mask[0]].any()


@both_ways
def test_no_images_have_no_loss(library):
    assert l1_ssim(torch.zeros(0, 3, 20, 20), torch.zeros(0, 3, 20, 20)).shape == (0,)


def test_without_a_gradient_the_value_is_the_same():
    prediction, target = pictures("noise", (1, 3, 30, 30))
    leaf = prediction.clone().requires_grad_()
    plain = l1_ssim(prediction, target)
    assert not plain.requires_grad
    assert torch.equal(plain, l1_ssim(leaf, target).detach())
    with torch.no_grad():
        assert not l1_ssim(leaf, target).requires_grad


def test_in_float64_it_is_pytorch_with_every_digit():
    prediction, target = (p.double() for p in pictures("smooth", (2, 3, 20, 22)))
    found, wanted = ours(prediction, target), exact(prediction, target, 0.2)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@compiled
def test_gradients_of_gradients_are_refused():
    prediction, target = pictures("noise", (1, 3, 20, 20))
    prediction.requires_grad_()
    loss = l1_ssim(prediction, target).square().sum()
    (first,) = torch.autograd.grad(loss, prediction, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


OK = torch.zeros(2, 3, 20, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((OK, OK[:1]), "prediction and target differ in shape"),
        ((OK, OK.double()), "differ in dtype: torch.float32 and torch.float64"),
        ((OK[0], OK[0]), "images must be [N, C, H, W] of at least 11 x 11 pixels, not (3, 20, 20)"),
        ((OK[..., :10], OK[..., :10]), "not (2, 3, 20, 10)"),
        ((OK.long(), OK.long()), "images must be floating-point, not torch.int64"),
        ((OK, OK, 1.5), "weight must lie in [0, 1], not 1.5"),
        ((OK, OK, float("nan")), "weight must lie in [0, 1], not nan"),
        ((OK, OK, 0.2, OK[:, 0]), "mask must be (2, 20, 20) of bool, not (2, 20, 20) of torch.fl"),
        ((OK, OK, 0.2, OK[0, 0] > 0), "mask must be (2, 20, 20) of bool, not (20, 20)"),
        ((OK, OK.clone().requires_grad_()), "target must not require a gradient"),
    ],
)
def test_what_it_cannot_compare_is_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        l1_ssim(*arguments)
