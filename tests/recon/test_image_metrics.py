"""PSNR, SSIM and LPIPS against their definitions and reference implementations."""

import hashlib
import warnings
from urllib.error import URLError

import lpips
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from skimage.metrics import structural_similarity

from recon import perceptual
from recon.metrics import psnr, score_views, ssim, to_8bit
from recon.perceptual import WEIGHTS_VARIABLE, Lpips, LpipsUnavailable, load_lpips


def pictures(count: int = 2, height: int = 24, width: int = 33, seed: int = 0):
    """Smooth pictures and noisy copies, some pixels of which leave [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 5, generator=generator)
    targets = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.randn(targets.shape, generator=generator)
    return targets + 0.1 * noise, targets


@pytest.fixture(scope="module")
def random_vgg16() -> dict[str, torch.Tensor]:
    """RANDOM weights in the layout of torchvision's VGG16: LPIPS values made with them mean
    nothing, only their agreement with the lpips package does."""
    torch.manual_seed(0)
    trunk = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    return {f"features.{name}": value for name, value in trunk.state_dict().items()}


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty hub cache, no weights variable, and a download that fails and counts its calls."""
    calls = []

    def fail(url, *args, **kwargs):
        calls.append(url)
        raise URLError("network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    return calls


def test_psnr_is_the_definition():
    images, targets = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    images[0] += 0.1
    images[1, :, 0] += 0.5
    expected = torch.tensor([20.0, -10 * np.log10(0.25 / 4)], dtype=torch.float32)
    torch.testing.assert_close(psnr(images, targets), expected)
    assert psnr(targets, targets).isinf().all()


def test_to_8bit_clips_and_rounds():
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0, 3.0])
    assert (to_8bit(values) * 255).round().tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_ssim_is_that_of_scikit_image():
    images, targets = pictures()
    images = images.clamp(0, 1)
    images[1, :, 5:20, 5:20] = targets[1, :, 5:20, 5:20] = 0.7  # flat regions cancel
    values = ssim(images, targets)
    for i in range(2):
        expected = structural_similarity(
            images[i].double().numpy(),
            targets[i].double().numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
        )
        assert values[i].item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_equal_images_is_one_down_to_the_window():
    image = torch.rand(1, 3, 11, 11)
    assert ssim(image, image).item() == pytest.approx(1.0, abs=1e-7)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, not 10 x 40"):
        ssim(torch.rand(1, 3, 10, 40), torch.rand(1, 3, 10, 40))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_that_are_no_pictures_are_refused(metric):
    with pytest.raises(ValueError, match="differ in shape"):
        metric(torch.rand(1, 3, 16, 16), torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"must be \[N, 3, H, W\]"):
        metric(torch.rand(1, 16, 16, 3), torch.rand(1, 16, 16, 3))


def test_views_are_scored_as_8bit_pictures(random_vgg16):
    renders, targets = pictures()
    model = Lpips(random_vgg16)
    scores = score_views(renders, targets, {"lpips": model})
    saved = (renders.clamp(0, 1) * 255).round().to(torch.uint8).float() / 255
    torch.testing.assert_close(scores["psnr"], psnr(saved, targets))
    torch.testing.assert_close(scores["ssim"], ssim(saved, targets))
    torch.testing.assert_close(scores["lpips"], model(saved, targets))
    assert all(value.shape == (2,) for value in scores.values())
    assert list(score_views(renders, targets, {})) == ["psnr", "ssim"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_lpips_is_that_of_the_package_given_the_same_weights(
    suffix, random_vgg16, tmp_path, no_network, monkeypatch
):
    file = tmp_path / f"random{suffix}"
    (torch.save if suffix == ".pth" else save_file)(random_vgg16, file)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(file))
    model = load_lpips()
    assert isinstance(model, Lpips)
    assert no_network == []

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for layer, module in package.net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            index = layer.split(".")[1]
            module.weight.data = random_vgg16[f"features.{index}.weight"]
            module.bias.data = random_vgg16[f"features.{index}.bias"]
    images, targets = pictures()
    expected = package(images * 2 - 1, targets * 2 - 1)
    assert (expected > 0).all()
    torch.testing.assert_close(model(images, targets), expected.flatten())
    # Neither autocast nor the training mode of a parent module changes the value.
    torch.nn.Sequential(model).train()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(images, targets), expected.flatten())


def test_lpips_passes_gradients_to_the_images_only(random_vgg16):
    model = Lpips(random_vgg16)
    images, targets = pictures()
    images.requires_grad_()
    model(images, targets).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert not any(p.requires_grad for p in model.parameters())


def test_building_lpips_leaves_the_random_numbers_alone(random_vgg16):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    Lpips(random_vgg16)
    assert torch.equal(torch.rand(4), expected)


def test_lpips_refuses_images_that_vgg16_cannot_take(random_vgg16):
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, not 12 x 40"):
        Lpips(random_vgg16)(torch.rand(1, 3, 12, 40), torch.rand(1, 3, 12, 40))


def test_without_weights_the_reason_is_one_line_and_the_download_is_tried_once(
    no_network, tmp_path
):
    result = load_lpips()
    assert isinstance(result, LpipsUnavailable)
    assert "\n" not in result.reason
    assert "network is unreachable" in result.reason
    assert f"put the file at {tmp_path}/hub/checkpoints/vgg16-397923af.pth" in result.reason
    assert WEIGHTS_VARIABLE in result.reason
    assert load_lpips() == result
    assert len(no_network) == 1


def test_weights_in_the_hub_cache_need_no_download(random_vgg16, no_network, tmp_path):
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(random_vgg16, cache / "vgg16-397923af.pth")
    assert isinstance(load_lpips(), Lpips)
    assert no_network == []


def test_a_download_of_another_file_is_not_kept(monkeypatch, tmp_path):
    """torch.hub checks the hash in the file's name: a captive portal's page is no weights."""
    page = tmp_path / "page.html"
    page.write_text("please log in")
    assert not hashlib.sha256(page.read_bytes()).hexdigest().startswith("397923af")
    monkeypatch.setattr(perceptual, "VGG16_URL", f"file://{tmp_path}/page.html")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    result = load_lpips()
    assert isinstance(result, LpipsUnavailable)
    assert "invalid hash value" in result.reason
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


class Untrusted:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (print, ("unpickled!",))


def wrong_files(random_vgg16):
    incomplete = {k: v for k, v in random_vgg16.items() if not k.startswith("features.28.")}
    reshaped = random_vgg16 | {"features.0.weight": torch.zeros(64, 1, 3, 3)}
    return {
        "incomplete.pth": (incomplete, "features.28.weight .* is missing"),
        "reshaped.pth": (reshaped, r"features.0.weight .* is \(64, 1, 3, 3\)"),
        "poisoned.pth": (
            random_vgg16 | {"features.0.bias": torch.full([64], torch.nan)},
            r"features.0.bias holds codes, NaN",
        ),
        "quantised.pth": (
            random_vgg16 | {"features.28.weight": torch.ones(512, 512, 3, 3, dtype=torch.int8)},
            r"features.28.weight holds codes",
        ),
        "list.pth": ([1, 2], "it holds a list, not a state dict"),
        "untrusted.pth": (Untrusted(), "not a file of plain weights"),
        "text.pth": (b"hello", "not a file of plain weights"),
        "text.safetensors": (b"hello", "not a file of plain weights"),
        "empty.pth": (b"", "not a file of plain weights"),
        "missing.pth": (None, "No such file"),
    }


@pytest.mark.parametrize("name", wrong_files({}))
def test_a_wrong_weights_file_is_named_in_one_sentence(
    name, random_vgg16, no_network, monkeypatch, tmp_path, capsys
):
    content, message = wrong_files(random_vgg16)[name]
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(file))
    with pytest.raises(ValueError, match=message) as error:
        load_lpips()
    text = str(error.value)
    assert str(file) in text
    assert WEIGHTS_VARIABLE in text
    assert "\n" not in text
    assert len(text) - len(str(file)) < 250
    assert "unpickled!" not in capsys.readouterr().out
