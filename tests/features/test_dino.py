import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmdiff_video.errors import InputError
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.dino import DINO_MODELS, CachedDino, default_layers, load_dino


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DINOv3 ViT with random weights, saved as the hub has it."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    model = DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_register_tokens=4,
            initializer_range=0.3,
        )
    )
    path = tmp_path_factory.mktemp("dino")
    model.save_pretrained(path)
    return path


def clip(frames: int = 1, height: int = 32, width: int = 48, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, frames, height, width, generator=generator)


def test_layers_are_concatenated_on_the_grid(folder: Path) -> None:
    dino = load_dino(folder, "cpu", layers=[3, 1])
    both = dino(clip(), (1, 2, 3))
    assert dino.channels == 48
    assert both.shape == (2, 48, 1, 2, 3)
    assert not both.requires_grad
    parts = [load_dino(folder, "cpu", layers=[i])(clip(), (1, 2, 3)) for i in (3, 1)]
    torch.testing.assert_close(both, torch.cat(parts, 1))


def test_the_last_layer_is_the_librarys_own_output(folder: Path) -> None:
    """Patch tokens after the final norm, in rows and columns, without class and registers."""
    from transformers import DINOv3ViTModel

    model: Any = DINOv3ViTModel.from_pretrained(folder)
    pictures = clip()[:, :, 0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        output = model.eval()((pictures - mean[:, None, None]) / std[:, None, None])
    tokens = output.last_hidden_state[:, 1 + 4 :]
    got = load_dino(folder, "cpu", layers=[3])(clip(), (1, 2, 3))
    torch.testing.assert_close(got[:, :, 0].flatten(2).transpose(1, 2), tokens)


def test_a_change_in_a_corner_shows_most_in_that_corner(folder: Path) -> None:
    dino = load_dino(folder, "cpu", layers=[0])
    video = clip(count=1, height=64, width=96)
    changed = video.clone()
    changed[..., 48:, 80:] = 1 - changed[..., 48:, 80:]
    difference = (dino(video, (1, 4, 6)) - dino(changed, (1, 4, 6)))[0, :, 0].norm(dim=0)
    assert difference.argmax() == 4 * 6 - 1


def test_maps_are_resized_to_any_grid(folder: Path) -> None:
    dino = load_dino(folder, "cpu", layers=[1])
    fine = dino(clip(height=64, width=96), (1, 4, 6))
    coarse = dino(clip(height=64, width=96), (1, 2, 3))
    # halving with antialiasing keeps the mean, but for the edges
    torch.testing.assert_close(coarse.mean((3, 4)), fine.mean((3, 4)), atol=0.15, rtol=0)
    assert dino(clip(height=64, width=96), (1, 9, 5)).shape == (2, 24, 1, 9, 5)
    # sides that are no whole patches
    assert dino(clip(height=40, width=100), (1, 2, 3)).shape == (2, 24, 1, 2, 3)


def test_latent_frames_take_the_last_of_their_frames(folder: Path) -> None:
    dino = load_dino(folder, "cpu", layers=[1])
    video = clip(frames=9)
    maps = dino(video, (3, 2, 3))
    assert maps.shape == (2, 24, 3, 2, 3)
    for i, frame in enumerate((0, 4, 8)):
        alone = dino(video[:, :, [frame]], (1, 2, 3))
        torch.testing.assert_close(maps[:, :, [i]], alone)
    assert dino(video, (9, 2, 3)).shape[2] == 9


def test_default_layers_lie_at_the_papers_depth(folder: Path) -> None:
    assert load_dino(folder, "cpu").layers == (1, 3)
    assert default_layers(12) == (2, 11)
    assert default_layers(24) == (4, 23)


def test_bfloat16(folder: Path) -> None:
    exact = load_dino(folder, "cpu")(clip(), (1, 2, 3))
    rough = load_dino(folder, "cpu", dtype=torch.bfloat16)(clip(), (1, 2, 3))
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_changes_nothing(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    dino = load_dino(folder, "cpu", dtype=dtype)
    plain = dino(clip(frames=5), (2, 2, 3))
    for _ in range(2):  # cold, and warm in what could be another process
        cache = FeatureCache(tmp_path, budget_gb=1)
        found = CachedDino(dino, cache)(clip(frames=5), (2, 2, 3))
        assert found.dtype == dtype
        assert torch.equal(found, plain)
    assert (cache.stats.hits, cache.stats.misses) == (2, 0)


def test_the_model_sees_only_what_is_not_cached(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dino = load_dino(folder, "cpu")
    cached = CachedDino(dino, FeatureCache(tmp_path, budget_gb=1))
    video = clip(count=3)
    first = cached(video[:1], (1, 2, 3))
    seen: list[int] = []
    read = dino._read
    monkeypatch.setattr(
        dino, "_read", lambda pictures: seen.append(len(pictures)) or read(pictures)
    )
    together = cached(video, (1, 2, 3))
    assert seen == [2]
    assert torch.equal(together[:1], first)
    torch.testing.assert_close(together, dino(video, (1, 2, 3)))


def test_whatever_the_maps_depend_on_is_an_entry_of_its_own(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    save_file({n: w + 0.01 for n, w in weights.items()}, other / "model.safetensors")
    cache = FeatureCache(tmp_path / "cache", budget_gb=1)
    models = [
        load_dino(folder, "cpu"),
        load_dino(other, "cpu"),
        load_dino(folder, "cpu", layers=[0]),
        load_dino(folder, "cpu", dtype=torch.bfloat16),
    ]
    seen = [CachedDino(dino, cache)(clip(), (1, 2, 3)) for dino in models]
    seen.append(CachedDino(models[0], cache)(clip(), (1, 4, 3)))
    seen.append(CachedDino(models[0], cache)(clip() * 0.9, (1, 2, 3)))
    assert cache.stats.hits == 0
    assert not torch.equal(seen[0], seen[1])
    files = [path.stat().st_size for path in cache.root.rglob("*.safetensors")]
    assert len(files) == 12
    size = CachedDino(models[0], cache).entry_bytes((1, 2, 3))
    assert size == 48 * 6 * 4
    assert any(size <= length < size + 1000 for length in files)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([4], "no DINO layer 4; valid: 0 to 3"),
        ([-1], "valid: 0 to 3"),
        ([1, 1], "distinct"),
        ([], "at least one"),
    ],
)
def test_bad_layers_are_refused(folder: Path, layers: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dino(folder, "cpu", layers)


def test_gated_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    asked: list[str] = []

    def refuse(hub_id: str, **kwargs: Any) -> None:
        asked.append(hub_id)
        response: Any = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
        raise GatedRepoError("Access to this repository is restricted", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    for name, hub_id in DINO_MODELS.items():
        with pytest.raises(InputError) as error:
            load_dino(name)
        message = str(error.value)
        assert asked[-1] == hub_id
        assert "\n" not in message
        assert f"'{hub_id}'" in message
        assert "accept its licence" in message
        assert "hf auth login" in message
        assert "local folder of a DINOv3 ViT" in message


def test_what_is_no_dinov3_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'dinov3-b'"):
        load_dino("dinov3b")
    with pytest.raises(InputError, match="cannot be loaded as a DINOv3 ViT"):
        load_dino(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(InputError, match="holds a dinov2 model"):
        load_dino(other)
    incomplete = tmp_path / "incomplete"
    incomplete.mkdir()
    (incomplete / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if "norm1" not in name}
    save_file(kept, incomplete / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks 8 weights"):
        load_dino(incomplete)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def pickled(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def quantised(folder: Path) -> None:
    change_config(folder, quantization_config={"quant_method": "bitsandbytes"})


def wider(folder: Path) -> None:
    change_config(folder, hidden_size=10**9)


def deeper(folder: Path) -> None:
    change_config(folder, num_hidden_layers=10**9)


def shallower(folder: Path) -> None:
    change_config(folder, num_hidden_layers=2)


def poisoned(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.bias"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def no_json(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff{")


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "is cut short or no safetensors file"),
        (pickled, "pytorch_model.bin, a pickle"),
        (quantised, r"is quantised \(bitsandbytes\)"),
        (wider, r"describes a model of [\d,]+ weights"),
        (deeper, "num_hidden_layers is 1000000000"),
        (shallower, "has no place for|describes no DINOv3ViTModel"),
        (poisoned, "norm.bias holds NaN"),
        (no_json, "not UTF-8"),
    ],
)
def test_a_spoilt_folder_is_one_sentence(folder: Path, tmp_path: Path, spoil, said: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spoil(copy)
    with pytest.raises(InputError, match=said) as error:
        load_dino(copy)
    assert "\n" not in str(error.value)
    assert str(copy) in str(error.value)


def test_half_precision_alone_is_found(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").rename(copy / "model.fp16.safetensors")
    found, expected = load_dino(copy).model.state_dict(), load_dino(folder).model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
