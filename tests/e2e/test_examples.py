"""The scripts in examples/ run, as a user starts them."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmdiff_video.rooms.make import make_rooms
from recon import load_ply

EXAMPLES = Path(__file__).parents[2] / "examples"

TINY_3DGS = [
    "backbone.name=nano-wan-random",
    "backbone.taps=[1]",
    "data.frames=5",
    "data.height=32",
    "data.width=48",
    "data.span=[7,12]",
    "aggregator.width=16",
    "aggregator.depth=1",
    "aggregator.heads=4",
    "decoder.width=32",
    "decoder.depth=1",
    "decoder.heads=4",
    "train.preview_every=0",
]


@pytest.fixture
def run_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run a script in an empty folder (in this process, to be quick); returns what it prints."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_features_of_a_picture(run_example, tmp_path: Path):
    Image.radial_gradient("L").save(tmp_path / "photo.png")
    printed = run_example(
        "features_of_a_picture.py", "photo.png", "--backbone", "nano-flux-random", "--size", "64"
    )
    assert "[B, T, C, F, H, W] = [1, 4, " in printed
    with Image.open(tmp_path / "features.png") as drawn:
        assert drawn.size == (64, 64)
        assert len(drawn.getcolors(64 * 64) or ()) > 4


def test_clip_to_gaussians_trains_and_then_opens_the_run(run_example, tmp_path: Path):
    root = make_rooms(tmp_path / "rooms", scenes=4, frames=14, width=64, height=48, jobs=1)
    settings = [f"data.root={root}", *TINY_3DGS]
    run_example("clip_to_gaussians.py", "--steps", "1", "--train", "run", *settings)
    count = load_ply(tmp_path / "scene.ply").num
    assert count > 0
    printed = run_example("clip_to_gaussians.py", "--run", "run", "--out", "again.ply")
    assert f"again.ply: {count} Gaussians" in printed


def test_a_head_in_ten_lines(run_example):
    small = ["--backbone", "nano-flux-random", "--rooms", "2", "--size", "64", "--steps", "12"]
    lines = run_example("head_in_ten_lines.py", *small).splitlines()
    errors = [float(line.split("off by ")[1].split(" m")[0]) for line in lines]
    assert errors[-2] < errors[0]  # the last step against the first
    assert lines[-1].startswith("one depth everywhere")


def test_a_backbone_of_ones_own(run_example, tmp_path: Path):
    printed = run_example("own_backbone.py", "--like", "nano-wan-random", "--blocks", "2")
    assert "block.0: [1, 2, " not in printed
    assert "block.1: [1, 2, " in printed
    assert (tmp_path / "my-wan" / "mmdiff.json").is_file()


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_opens_with_a_command_for_either_machine(script: Path):
    opening = script.read_text().split('"""')[1]
    assert opening.count(f"python examples/{script.name}") == 2
    assert "# a GPU" in opening
    assert "# a laptop" in opening
