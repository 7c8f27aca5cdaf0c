"""What version 0.1.0 wrote is opened, scored and resumed, and training computes what it did."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from mmdiff_video.backbones import load_backbone
from mmdiff_video.cli import main

OLD = Path(__file__).parent.parent / "fixtures" / "v0_1"
COMMANDS = json.loads((OLD / "commands.json").read_text())


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what version 0.1.0 left, as the working folder."""
    root = tmp_path / "old"
    shutil.copytree(OLD, root)
    for config in root.rglob("config.yaml"):
        config.write_text(config.read_text().replace("ROOT", str(root)))
    monkeypatch.chdir(root)
    return root


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("run", sorted(COMMANDS))
def test_ten_steps_give_the_golden_losses(
    old: Path, run: str, caplog: pytest.LogCaptureFixture
) -> None:
    command = COMMANDS[run]
    again = [f"again/{run}" if word == run and command[i - 1] == "--out" else word
             for i, word in enumerate(command)]  # fmt: skip
    with caplog.at_level(logging.INFO):
        assert main(again) == 0
    golden = json.loads((old / "golden.json").read_text())[run]
    # to the last digit where the golden ones were made; other processors round otherwise
    assert losses(old / "again" / run) == pytest.approx(golden, rel=2e-4)
    caches = [line for line in caplog.text.splitlines() if " misses" in line]
    assert len(caches) == (2 if run == "joint" else 1)
    assert all(" 0 misses" in line for line in caches), "old entries of the cache were not found"


def test_the_exported_folder_is_the_same_backbone(old: Path) -> None:
    backbone = load_backbone("tiny-wan")
    trained_on = json.loads((old / "nvs" / "run.json").read_text())["backbone_fingerprint"]
    assert backbone.fingerprint == trained_on
    assert backbone.untrained
    assert backbone.defaults.taps == ("block.0", "block.1")


def test_the_3dgs_run_scores_as_before_and_resumes(old: Path) -> None:
    before = json.loads((old / "nvs" / "eval.json").read_text())
    assert main(["eval-3dgs", "nvs"]) == 0
    after = json.loads((old / "nvs" / "eval.json").read_text())
    for row in ("held_out", "nearest_input", "inputs"):
        assert after[row]["psnr"] == pytest.approx(before[row]["psnr"], abs=0.02)
        assert after[row]["ssim"] == pytest.approx(before[row]["ssim"], abs=2e-3)
    more = [word for word in COMMANDS["nvs"] if not word.startswith("train.steps=")]
    assert main([*more, "--resume", "train.steps=12"]) == 0
    assert len(losses(old / "nvs")) == 12
    assert losses(old / "nvs")[:10] == json.loads((old / "golden.json").read_text())["nvs"]
    flight = ["--out", "flight.mp4", "--frames", "3", "--ply", "scene.ply"]
    assert main(["render", "nvs", *flight]) == 0
    assert (old / "scene.ply").is_file()


def test_the_depth_run_scores_as_before_and_predicts(old: Path) -> None:
    before = json.loads((old / "depth" / "eval.json").read_text())
    assert main(["eval-dense", "depth"]) == 0
    after = json.loads((old / "depth" / "eval.json").read_text())
    assert after["scores"] == pytest.approx(before["scores"], rel=1e-3)
    assert after["constant"]["scores"] == pytest.approx(before["constant"]["scores"], rel=1e-3)
    assert main(["predict", "depth", "data/pictures/test/images/p0.png", "--out", "found"]) == 0
    assert (old / "found" / "p0.png").is_file()


def test_the_joint_run_resumes_and_its_task_scores_as_before(old: Path) -> None:
    before = json.loads((old / "joint" / "seg" / "eval.json").read_text())
    assert main(["eval-dense", "joint/seg"]) == 0
    after = json.loads((old / "joint" / "seg" / "eval.json").read_text())
    assert after["scores"] == pytest.approx(before["scores"], rel=1e-3)
    more = [word for word in COMMANDS["joint"] if not word.startswith("train.steps=")]
    assert main([*more, "--resume", "train.steps=12"]) == 0
    assert len(losses(old / "joint")) == 12
