"""The trained weights that come with the package, where they do."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmdiff_video.backbones import load_backbone, load_defaults, registry
from mmdiff_video.backbones.cards import load_card, shipped_weights
from mmdiff_video.backbones.describe import describe
from mmdiff_video.pretraining.export import GOLDEN, golden_forward

NAMES = ("nano-flux", "nano-wan")


@pytest.fixture(params=NAMES)
def shipped(request: pytest.FixtureRequest) -> tuple[str, Path]:
    folder = shipped_weights(request.param)
    if folder is None:
        pytest.skip(f"no trained weights of {request.param} in this checkout")
    return request.param, folder


def test_shipped_weights_load_and_reproduce_their_golden_forward(shipped: tuple[str, Path]):
    name, folder = shipped
    backbone = load_backbone(name, device="cpu")
    assert not backbone.untrained
    golden = json.loads((folder / GOLDEN).read_text())
    for part, values in golden_forward(backbone).items():
        assert torch.allclose(torch.tensor(values), torch.tensor(golden[part]), atol=1e-3), part


def test_shipped_weights_are_small_and_fit_their_card(shipped: tuple[str, Path]):
    name, folder = shipped
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 40e6
    for component in ("transformer", "vae"):
        config = json.loads((folder / component / "config.json").read_text())
        for key, value in getattr(load_card(name), component).items():
            if key not in ("latents_mean", "latents_std", "scaling_factor", "shift_factor"):
                assert config[key] == value, f"{component}.{key}"


def test_a_name_takes_shipped_weights_and_its_twin_never(
    tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from mmdiff_video.backbones import cards

    monkeypatch.setattr(cards, "weights_dir", lambda: tmp_path)
    assert describe("nano-wan").untrained  # nothing is shipped
    folder = shutil.copytree(tiny_folders["wan"], tmp_path / "nano-wan")
    note = json.loads((folder / "mmdiff.json").read_text())
    (folder / "mmdiff.json").write_text(json.dumps(note | {"untrained": False}))
    assert registry._folder("nano-wan") == folder
    assert not load_backbone("nano-wan", device="cpu").untrained
    assert load_defaults("nano-wan").text_tokens == note["defaults"]["text_tokens"]
    assert describe("nano-wan-random").untrained
    assert load_defaults("nano-wan-random") == load_card("nano-wan").defaults
