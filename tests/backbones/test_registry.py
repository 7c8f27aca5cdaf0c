import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_cards import ROWS

from mmdiff_video.backbones import (
    UNTRAINED_NOTICE,
    backbone_names,
    backbone_source,
    describe_taps,
    load_backbone,
    load_defaults,
)
from mmdiff_video.backbones.cards import load_card
from mmdiff_video.backbones.families import family_of
from mmdiff_video.backbones.hub import fetch_pipeline
from mmdiff_video.backbones.registry import fingerprint
from mmdiff_video.backbones.taps import resolve_taps, spread
from mmdiff_video.errors import InputError

NAMES = [
    "flux",
    "flux-schnell",
    "nano-flux",
    "nano-wan",
    "sd3.5-large",
    "sd3.5-medium",
    "wan",
    "wan-14b",
]
TWINS = ["nano-flux-random", "nano-wan-random"]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def copied(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny Wan folder that a test may spoil."""
    return Path(shutil.copytree(tiny_folders["wan"], tmp_path / "copy"))


def test_names_and_sources() -> None:
    assert backbone_names() == sorted(NAMES + TWINS)
    assert backbone_source("wan") == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert backbone_source("nano-wan") is None


def test_defaults_of_the_big_backbones() -> None:
    flux, wan = load_defaults("flux"), load_defaults("wan")
    assert flux.taps == ("single.4", "single.15", "single.26", "single.37")
    assert flux.timesteps == wan.timesteps == (0.78, 0.52, 0.26, 0.001)
    assert (flux.guidance, flux.extract_guidance, wan.guidance) == (3.5, 3.5, 5.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_consistent(name: str) -> None:
    card = load_card(name)
    layout = family_of(card.pipeline, name).layout(card.transformer, card.vae)
    d = card.defaults
    layout.geometry.check_size(d.frames, d.height, d.width)
    taps = resolve_taps(d.taps, layout.taps, layout.default_stream)
    assert len(taps) == 4
    assert layout.geometry.channels == (64 if name == "nano-wan" else 16)
    assert layout.geometry.space_stride * layout.geometry.patch == 16
    if name not in ("flux", "flux-schnell"):  # theirs are the paper's
        depth = sum(spec.stream == layout.default_stream for spec in layout.taps)
        assert [spec.index for spec in taps] == pytest.approx(spread(4, depth), abs=1)


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(InputError) as error:
        load_backbone("nano-wam")
    assert "did you mean 'nano-wan'" in str(error.value)
    for name in NAMES:
        assert name in str(error.value)
    with pytest.raises(InputError, match=r"unknown offload 'cpu'.*sequential"):
        load_backbone("nano-wan", offload="cpu")
    with pytest.raises(InputError, match="accelerator"):
        load_backbone("nano-wan", device="cpu", offload="model")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["flux", "black-forest-labs/FLUX.1-dev"])
def test_absent_weights_offline_say_what_to_do(name: str) -> None:
    with pytest.raises(InputError) as error:
        load_backbone(name)
    message = str(error.value)
    assert "\n" not in message
    assert "'black-forest-labs/FLUX.1-dev'" in message
    assert "go online" in message
    assert "local diffusers folder" in message


def test_gated_weights_say_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError

    def refuse(*args: object, **kwargs: object) -> None:
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=r"licence on the hub and run `hf auth login`"):
        load_backbone("flux")


def test_only_the_components_of_a_pipeline_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The files of a real repository, with its copies for other programs."""
    from huggingface_hub.utils import filter_repo_objects

    wanted = {
        "model_index.json",
        "mmdiff.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.json",
        "tokenizer/merges.txt",
        "tokenizer_3/spiece.model",
    }
    unwanted = {
        "sd3.5_medium.safetensors",
        "README.md",
        "text_encoders/clip_g.safetensors",
        "text_encoders/t5xxl_fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder_3/model.fp16-00001-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.fp16.json",
        "image_encoder/model.safetensors",
        "demo/example.json",
    }
    parts = ("transformer", "text_encoder", "text_encoder_3", "tokenizer", "tokenizer_3")
    index = {"_class_name": "Pipeline", "image_encoder": [None, None]}
    (tmp_path / "model_index.json").write_text(
        json.dumps(index | {name: ["library", "Class"] for name in parts})
    )
    calls: list[set[str]] = []

    def snapshot(hub_id: str, **patterns: list[str]) -> str:
        calls.append(set(filter_repo_objects(sorted(wanted | unwanted), **patterns)))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert fetch_pipeline("someone/something") == tmp_path
    assert calls == [{"model_index.json"}, wanted]
    # of a model that has no others, the weights in half precision after all
    for part in ("transformer", "text_encoder"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").touch()
    fetch_pipeline("someone/something")
    assert calls[-1] == {"text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors"}
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(InputError, match=r"'someone/something' has no readable model_index.json"):
        fetch_pipeline("someone/something")


def test_broken_folders_are_refused(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no model_index.json"):
        load_backbone(str(tmp_path / "empty"))
    (copied / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded as a diffusers pipeline"):
        load_backbone(str(copied))
    edit_json(copied / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"])
    with pytest.raises(InputError, match="two transformers"):
        load_backbone(str(copied))
    edit_json(copied / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(InputError, match=r"StableDiffusionPipeline.*WanPipeline, FluxPipeline"):
        load_backbone(str(copied))
    (copied / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        load_backbone(str(copied))


def test_a_folder_without_our_card_gets_the_familys_defaults(copied: Path) -> None:
    (copied / "mmdiff.json").unlink()
    defaults = load_defaults(str(copied))
    # Wan's own taps do not exist in four blocks: as many, evenly spread
    assert defaults.taps == ("block.0", "block.1", "block.2", "block.3")
    assert defaults.text_tokens == load_defaults("wan").text_tokens
    assert not load_backbone(str(copied), device="cpu").untrained


def test_a_config_without_a_needed_key_is_refused(copied: Path) -> None:
    (copied / "transformer" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"'num_attention_heads' is in neither transformer/config"):
        load_defaults(str(copied))


@pytest.mark.parametrize("name", NAMES)
def test_a_local_copy_has_the_defaults_of_its_model(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": card.pipeline}))
    for part, config in (("transformer", card.transformer), ("vae", card.vae)):
        (tmp_path / part).mkdir()
        # a model's own file says more than its card
        config = config | {"_class_name": "Model", "eps": 1e-6}
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    assert load_defaults(str(tmp_path)) == card.defaults


def test_fingerprint_follows_content_not_place(tiny_folders: dict[str, Path], copied: Path) -> None:
    original = fingerprint(tiny_folders["wan"])
    assert fingerprint(copied) == original
    assert fingerprint(tiny_folders["flux"]) != original
    weights = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert fingerprint(copied) != original


def test_fingerprint_follows_links(copied: Path, tmp_path: Path) -> None:
    original = fingerprint(copied)
    elsewhere = (copied / "transformer").rename(tmp_path / "elsewhere")
    (copied / "transformer").symlink_to(elsewhere)
    assert fingerprint(copied) == original
    weights = elsewhere / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert fingerprint(copied) != original


def test_fingerprint_of_a_large_file_sees_header_size_and_samples(tmp_path: Path) -> None:
    file = tmp_path / "transformer" / "model.safetensors"
    file.parent.mkdir()
    with file.open("wb") as out:  # sparse
        out.truncate(65 * 2**20)
    seen = {fingerprint(tmp_path)}
    for position in (0, 65 * 2**20 - 1):
        with file.open("r+b") as out:
            out.seek(position)
            out.write(b"x")
        seen.add(fingerprint(tmp_path))
    with file.open("r+b") as out:
        out.truncate(65 * 2**20 + 1)
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 4


def test_bf16_keeps_the_float32_modules(tiny_folders: dict[str, Path]) -> None:
    for family in ROWS:
        backbone = load_backbone(str(tiny_folders[family]), device="cpu", dtype=torch.bfloat16)
        dtypes = {p.dtype for p in backbone.pipeline.transformer.parameters()}
        assert torch.bfloat16 in dtypes
        assert (torch.float32 in dtypes) == (family == "wan")
        sample = backbone.generate("a chair", timesteps=[0.6, 0.001], steps=4)
        for m in sample.features.maps.values():
            assert m.dtype == torch.bfloat16
            assert m.isfinite().all()


def test_describe_taps_agrees_with_the_loaded_backbone(
    tiny_folders: dict[str, Path],
) -> None:
    for family in ROWS:
        folder = str(tiny_folders[family])
        backbone = load_backbone(folder, device="cpu")
        table = describe_taps(folder)
        assert list(table.taps) == backbone.tap_specs()
        frames, height, width = table.size
        times = table.timesteps
        features = backbone.extract(
            torch.zeros(1, 3, frames, height, width), timesteps=times, keys=["a"]
        )
        for spec in table.chosen:
            assert features.maps[spec.name].shape[3:] == table.grid
            assert features.maps[spec.name].bfloat16().nbytes == table.nbytes(spec)


def test_describe_taps_prints_names_widths_grid_and_memory() -> None:
    text = str(describe_taps("wan", frames=17, height=480, width=832))
    for fact in ("block.0 to block.29", "1536", "5 x 30 x 52 = 7800 tokens", "91.4 MiB", "0.78"):
        assert fact in text
    assert UNTRAINED_NOTICE not in text
    assert UNTRAINED_NOTICE in str(describe_taps("nano-wan-random"))
    assert "single.0 to single.37" in str(describe_taps("flux"))
    for name, last, width in (("sd3.5-medium", 23, "1536"), ("sd3.5-large", 37, "2432")):
        text = str(describe_taps(name))
        for fact in (f"joint.0 to joint.{last}", width, "1 x 32 x 32 = 1024 tokens"):
            assert fact in text
    with pytest.raises(InputError, match="16 frames"):
        describe_taps("wan", frames=16)
    for size in ({"frames": 0}, {"height": 0}, {"width": 0}):
        with pytest.raises(InputError, match=f"{next(iter(size))} .*0"):
            describe_taps("wan", **size)


def test_describe_taps_loads_no_weights_and_no_heavy_library() -> None:
    code = (
        "import sys; from mmdiff_video.backbones import describe_taps; str(describe_taps('wan'));"
        "sys.exit(any(m in sys.modules for m in ('diffusers', 'transformers', 'accelerate')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_card_defaults_survive_the_folder(tiny_folders: dict[str, Path]) -> None:
    for family in ROWS:
        note = json.loads((tiny_folders[family] / "mmdiff.json").read_text())
        defaults = load_defaults(str(tiny_folders[family]))
        assert json.loads(json.dumps(dataclasses.asdict(defaults))) == note["defaults"]
