"""ST-LPIPS against the package whose weights it reads."""

import copy
import sys
import types

import pytest
import torch

from recon.perceptual import LpipsUnavailable
from recon.shift_tolerant import StLpips, load_st_lpips


@pytest.fixture(scope="module")
def model() -> StLpips:
    pytest.importorskip("stlpips_pytorch")
    loaded = load_st_lpips()
    assert isinstance(loaded, StLpips)
    return loaded


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 40, 56, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return images, (images + 0.1 * noise).clamp(0, 1)


def test_values_are_those_of_the_package(model, monkeypatch):
    # The package imports these two for nothing and does not declare them.
    for name, attribute in (("IPython", "embed"), ("torchsummary", "summary")):
        module = types.ModuleType(name)
        setattr(module, attribute, None)
        monkeypatch.setitem(sys.modules, name, module)
    from stlpips_pytorch import stlpips

    package = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    images, targets = pictures()
    expected = package(images, targets, normalize=True).flatten()
    assert (expected > 1e-3).all()
    torch.testing.assert_close(model(images, targets), expected)


def test_pixels_without_an_active_channel_have_finite_gradients(model):
    silent = copy.deepcopy(model)
    for name, parameter in silent.stages[0].named_parameters():
        parameter.data.fill_(0.0 if name.endswith("weight") else -1.0)
    images, targets = pictures()
    silent(images.requires_grad_(), targets).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_equal_pictures_have_no_distance_and_gradients_reach_the_pictures(model):
    images, targets = pictures()
    assert (model(images, images) == 0).all()
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        distance = model(images, targets)
    assert distance.dtype == torch.float32
    (gradient,) = torch.autograd.grad(distance.sum(), images)
    assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in model.parameters())


def test_pictures_that_are_too_small_are_refused(model):
    with pytest.raises(ValueError, match="at least 32 x 32"):
        model(torch.rand(1, 3, 16, 40), torch.rand(1, 3, 16, 40))


def test_without_the_package_the_reason_says_what_to_do(monkeypatch):
    monkeypatch.setattr("recon.shift_tolerant._weights_file", lambda: None)
    loaded = load_st_lpips()
    assert isinstance(loaded, LpipsUnavailable)
    assert "pip install stlpips_pytorch" in loaded.reason


@pytest.mark.parametrize("content", [b"", b"hello", {}, [1]], ids=str)
def test_weights_that_are_none_are_a_reason(monkeypatch, tmp_path, content):
    path = tmp_path / "alex.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    monkeypatch.setattr("recon.shift_tolerant._weights_file", lambda: path)
    loaded = load_st_lpips()
    assert isinstance(loaded, LpipsUnavailable)
    assert str(path) in loaded.reason
    assert "\n" not in loaded.reason
