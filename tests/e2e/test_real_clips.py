"""The main job on real clips, in both RealEstate10K layouts (skipped without MMDIFF_TEST_DATA)."""

import json
from pathlib import Path

import pytest

from mmdiff_video.cli import main

SMALL = [
    "data.height=48",
    "data.width=64",
    "data.eval_targets=4",
    "data.samplings_per_clip=1",
    "aggregator.width=64",
    "decoder.width=128",
    "decoder.depth=2",
    "train.steps=12",
    "train.warmup_steps=2",
    "train.lr=4e-3",
    "train.log_every=3",
    "train.preview_every=0",
    "train.ema_decay=0.5",
]


@pytest.mark.parametrize("layout", ["re10k", "re10k_chunks"])
@pytest.mark.parametrize("source", ["features", "latent"])
def test_train_eval_and_render_run_and_the_error_falls(
    real_data: Path, tmp_path: Path, layout: str, source: str
):
    run = tmp_path / "run"
    command = ["train-3dgs", "--data", "re10k", "--data-root", str(real_data / layout)]
    assert main([*command, "--input", source, "--out", str(run), *SMALL]) == 0
    # twelve steps find colours, which the squared error sees and SSIM does not
    errors = [json.loads(x)["mse"] for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert errors[-1] < 0.8 * errors[0]
    assert main(["eval-3dgs", str(run)]) == 0
    report = json.loads((run / "eval.json").read_text())
    assert report["scenes"] == {"re10k": 3, "re10k_chunks": 2}[layout]
    assert report["views"] == 4 * report["scenes"]
    assert report["held_out"]["psnr"] > 9
    video = tmp_path / "orbit.mp4"
    command = ["render", str(run), "--trajectory", "orbit", "--frames", "4", "--out", str(video)]
    assert main(command) == 0
    assert video.stat().st_size > 500


@pytest.mark.slow
def test_overfitting_one_clip_reaches_22_db_on_its_input_views(real_data: Path, tmp_path: Path):
    run = tmp_path / "run"
    command = ["train-3dgs", "--data", "re10k", "--data-root", str(real_data / "re10k")]
    command += ["--out", str(run), "data.max_clips=1", "data.samplings_per_clip=1"]
    # the whole clip is the only span there is, so training and evaluation see the same frames
    command += ["data.span=[50,50]", "data.targets=1", "data.input_targets=2"]
    command += ["train.steps=200", "train.lr=1e-3", "train.warmup_steps=10", "train.ema_decay=0.9"]
    command += ["train.preview_every=0", f"cache.dir={tmp_path / 'cache'}"]
    assert main(command) == 0
    assert main(["eval-3dgs", str(run), "--split", "train", "--max-clips", "1"]) == 0
    report = json.loads((run / "eval-train.json").read_text())
    assert report["inputs"]["psnr"] >= 22
