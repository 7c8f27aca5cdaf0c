"""The commands as a user types them, on tiny procedural clips."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff_video.cli import _parser, main
from mmdiff_video.datasets.formats.re10k import write_video
from mmdiff_video.datasets.video_reader import count_frames, read_frames
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.runs import open_run
from recon.io.ply import load_ply

TINY = [
    "data.frames=5",
    "data.height=32",
    "data.width=48",
    "data.targets=1",
    "data.eval_targets=2",
    "data.span=[7,12]",
    "data.samplings_per_clip=1",
    "aggregator.width=32",
    "aggregator.depth=1",
    "aggregator.heads=4",
    "backbone.taps=[1,3]",
    "decoder.width=32",
    "decoder.depth=1",
    "decoder.heads=4",
    "decoder.output_space_stride=4",
    "train.checkpoint_every=2",
    "train.preview_every=4",
    "train.log_every=1",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "rooms"
    return make_rooms(out, scenes=4, frames=14, width=64, height=48, jobs=1)


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "features"
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", str(out)]
    command += ["--backbone", "nano-wan-random"]
    assert main([*command, "train.steps=4", *TINY]) == 0
    return out


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_leaves_a_complete_run_folder(run: Path):
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2, 3, 4]
    assert all("untrained" in line["notice"] for line in lines(run / "metrics.jsonl"))
    facts = open_run(run).facts
    assert (facts.kind, facts.backbone) == ("3dgs", "nano-wan-random")
    assert facts.untrained_backbone
    assert (facts.samples, facts.skipped) == (3, ())
    assert facts.parameters["total"] == facts.parameters["aggregator"] + facts.parameters["decoder"]
    assert (run / "config.yaml").is_file()
    assert Image.open(run / "previews" / "step-000004.png").size[0] > 3 * 48


def test_evaluation_writes_table_json_and_pictures(run: Path, capsys: pytest.CaptureFixture):
    assert main(["eval-3dgs", str(run)]) == 0
    table = capsys.readouterr().out
    assert "held-out views" in table
    assert "copy of the nearest input frame" in table
    assert "untrained backbone" in table
    report = json.loads((run / "eval.json").read_text())
    assert report["scenes"] == 1
    assert report["views"] == 2
    assert 3 < report["psnr"] < 60
    assert -1 <= report["ssim"] <= 1
    assert report["psnr"] == report["held_out"]["psnr"]
    assert (report["lpips"] is None) == bool(report["lpips_reason"])
    assert len(list((run / "eval").glob("*.png"))) == 1


def test_eval_scores_by_the_kind_of_the_run(run: Path, tmp_path: Path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["eval-3dgs", str(copy)]) == 0
    before = json.loads((copy / "eval.json").read_text())
    (copy / "eval.json").unlink()
    assert main(["eval", str(copy)]) == 0
    assert "held-out views" in capsys.readouterr().out
    assert json.loads((copy / "eval.json").read_text()) == before
    assert main(["eval", str(copy), "--split", "train"]) == 0
    assert (copy / "eval-train.json").is_file()
    assert main(["eval", str(copy), "--max-images", "3"]) == 2
    printed = capsys.readouterr().err
    assert "--max-images has no meaning here" in printed
    assert "`eval` takes --data-root, --split, --max-clips, --eval-index for it" in printed
    assert main(["predict", str(copy), str(copy / "eval"), "--out", str(tmp_path / "o")]) == 2
    assert "`eval` and `render` take it" in capsys.readouterr().err


def test_evaluation_by_an_index_says_that_it_is_another_protocol(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (key,) = [file.stem for file in (root / "test").glob("*.txt")]
    index = tmp_path / "index.json"
    index.write_text(json.dumps({key: {"context": [1, 11], "target": [3, 7, 11]}, "gone": None}))
    assert main(["eval-3dgs", str(copy), "--eval-index", str(index)]) == 0
    assert "not the two-view protocol" in capsys.readouterr().out
    report = json.loads((copy / "eval.json").read_text())
    assert report["views"] == 2
    assert report["counts"]["targets_that_are_contexts"] == 1
    assert report["counts"]["null_scenes"] == 1


@pytest.mark.parametrize("trajectory", ["interpolate", "orbit", "spiral"])
def test_render_writes_a_video_and_a_ply(run: Path, tmp_path: Path, trajectory: str):
    command = ["render", str(run), "--trajectory", trajectory, "--frames", "3", "--depth"]
    command += ["--out", str(tmp_path / "v.mp4"), "--ply", str(tmp_path / "s.ply")]
    assert main(command) == 0
    assert count_frames(tmp_path / "v.mp4") == 3
    assert load_ply(tmp_path / "s.ply").num == 2 * 8 * 12  # frames 0 and 4, every 4th pixel


def test_any_scene_can_be_rendered_by_name(root: Path, tmp_path: Path, capsys):
    out = tmp_path / "run"
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", str(out)]
    assert main([*command, "train.steps=1", "data.max_clips=1", *TINY]) == 0
    keys = sorted(file.stem for file in (root / "train").glob("*.txt"))
    assert len(keys) > 1
    render = ["render", str(out), "--split", "train", "--frames", "1"]
    for key in keys:  # those beyond the run's choice too
        assert main([*render, "--scene", key, "--out", str(tmp_path / f"{key}.mp4")]) == 0
    assert main([*render, "--scene", "none", "--out", str(tmp_path / "none.mp4")]) == 2
    assert keys[0] in capsys.readouterr().err


def test_a_damaged_note_of_a_run_is_named(run: Path, tmp_path: Path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for text in ("{", "[]"):
        (copy / "run.json").write_text(text)
        assert main(["eval-3dgs", str(copy)]) == 2
        assert "run.json' is damaged" in capsys.readouterr().err


def test_resume_goes_on_where_an_uninterrupted_run_would_be(run: Path, root: Path, tmp_path: Path):
    """Two steps, a stop, two more: the same losses as four in one go."""
    out = tmp_path / "resumed"
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", str(out)]
    command += ["--backbone", "nano-wan-random"]
    shutil.copytree(run, out)
    shutil.rmtree(out / "checkpoints" / "step-000004")
    assert main([*command, "--resume", "train.steps=4", *TINY]) == 0
    resumed, whole = lines(out / "metrics.jsonl"), lines(run / "metrics.jsonl")
    assert [r["loss"] for r in resumed] == [w["loss"] for w in whole]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--backbone", "nano-wan"], "backbone weights"),
        (["backbone.timesteps=[0.3]"], "timesteps [0.3]"),
        (["aggregation=mean"], "aggregation mean"),
        (["data.height=48"], "size [5, 48, 48]"),
        (["train.optimizer=adamw"], "optimizer adamw"),
    ],
)
def test_resuming_on_other_features_is_refused_and_changes_nothing(
    run: Path, root: Path, tmp_path: Path, change: list[str], named: str, capsys
):
    out = tmp_path / "resumed"
    shutil.copytree(run, out)
    kept = [(out / name).read_text() for name in ("run.json", "config.yaml")]
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", str(out)]
    command += ["--backbone", "nano-wan-random"]
    tiny = [word for word in TINY if word not in ("aggregator.depth=1", "aggregator.heads=4")]
    assert main([*command, "--resume", "train.steps=6", *tiny, *change]) == 2
    assert f"cannot resume with {named}" in capsys.readouterr().err
    assert [(out / name).read_text() for name in ("run.json", "config.yaml")] == kept


def test_resuming_with_other_settings_says_which(
    run: Path, root: Path, tmp_path: Path, capsys, caplog
):
    out = tmp_path / "resumed"
    shutil.copytree(run, out)
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", str(out)]
    command += ["--backbone", "nano-wan-random", "--resume", "train.steps=5", *TINY]
    assert main([*command, "train.lr=1e-5"]) == 0
    assert "from here on with other settings: train.steps: 4 -> 5; train.lr: " in caplog.text
    caplog.clear()
    assert main([*command, "train.lr=1e-5"]) == 0
    assert "other settings" not in caplog.text


def test_a_run_is_found_from_another_folder(root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", "run"]
    assert main([*command, "cache.dir=cache", "train.steps=1", *TINY]) == 0
    monkeypatch.chdir(root)
    assert main(["eval-3dgs", str(tmp_path / "run")]) == 0
    assert not (root / "cache").exists()


def test_a_run_whose_backbone_has_changed_is_opened_with_a_warning(
    run: Path, tmp_path: Path, nano_wan, caplog: pytest.LogCaptureFixture
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    Reconstructor.from_run(copy, backbone=nano_wan)
    assert "other weights" not in caplog.text
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**facts, "backbone_fingerprint": "others"}))
    Reconstructor.from_run(copy, backbone=nano_wan)
    assert "was trained on other weights" in caplog.text
    caplog.clear()
    del facts["backbone_fingerprint"]  # as runs of older versions
    (copy / "run.json").write_text(json.dumps(facts))
    Reconstructor.from_run(copy, backbone=nano_wan)
    assert "other weights" not in caplog.text


@pytest.mark.parametrize("source", ["features", "latent"])
def test_an_image_backbone_trains_on_clips_too(root: Path, tmp_path: Path, source: str):
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root)]
    command += ["--backbone", "nano-flux", "--input", source, "--out", str(tmp_path / "run")]
    assert main([*command, "train.steps=2", *TINY]) == 0
    assert main(["eval-3dgs", str(tmp_path / "run")]) == 0


def test_a_clip_that_stands_still_can_be_scored(run: Path, root: Path, tmp_path: Path):
    still = tmp_path / "rooms"
    shutil.copytree(root, still)
    (clip,) = (still / "videos").glob("test*.mp4")
    first = read_frames(clip, [0])
    write_video(clip, np.repeat(first, count_frames(clip), 0), 64, 48)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["eval-3dgs", str(copy), "--data-root", str(still)]) == 0
    nearest = json.loads((copy / "eval.json").read_text())["nearest_input"]
    assert 50 < nearest["psnr"] <= 100
    assert nearest["ssim"] > 0.999


def test_the_training_clips_that_are_scored_were_trained_on(root: Path, tmp_path: Path):
    out = tmp_path / "run"
    command = ["train-3dgs", "--data", "rooms", "--data-root", str(root), "--out", str(out)]
    assert main([*command, "train.steps=1", "data.max_clips=2", *TINY]) == 0
    assert main(["eval-3dgs", str(out), "--split", "train"]) == 0
    assert json.loads((out / "eval-train.json").read_text())["scenes"] == 2


def test_compare_prints_the_three_rows_and_continues(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    command = ["compare-3dgs", "--data", "rooms", "--data-root", str(root)]
    command += ["--backbone", "nano-wan-random"]
    command += ["--out", str(tmp_path / "cmp"), "train.steps=1", *TINY]
    assert main(command) == 0
    table = capsys.readouterr().out
    for label in (
        "| latent ",
        "trunk widened",
        "aggregated features",
        "nearest input",
        "untrained",
    ):
        assert label in table
    report = json.loads((tmp_path / "cmp" / "comparison.json").read_text())
    parameters = {arm: found["parameters"]["total"] for arm, found in report["test"].items()}
    assert parameters["latent"] < parameters["latent-wide"]
    assert abs(parameters["latent-wide"] / parameters["features"] - 1) < 0.2
    assert Image.open(tmp_path / "cmp" / "comparison-test.png").width > 4 * 2 * 48
    stamp = (tmp_path / "cmp" / "latent" / "config.yaml").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "cmp" / "latent" / "config.yaml").stat().st_mtime_ns == stamp

    # what `eval-3dgs` leaves of an earlier step, of fewer clips or of other frames
    path = tmp_path / "cmp" / "latent" / "eval.json"
    right = json.loads(path.read_text())
    for part in ({"steps": 0}, {"per_scene": {"held_out": {}}}, {"protocol": "other frames"}):
        path.write_text(json.dumps({**right, **part}))
        assert main(command) == 0
        assert json.loads(path.read_text()) == right

    assert main([*command, "train.lr=1e-3"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_comparison_goes_on_whose_index_was_named_from_here(root: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (key,) = [file.stem for file in (root / "test").glob("*.txt")]
    Path("index.json").write_text(json.dumps({key: {"context": [1, 11], "target": [3, 7]}}))
    command = ["compare-3dgs", "--data", "rooms", "--data-root", str(root), "--out", "cmp"]
    command += ["--backbone", "nano-wan-random", "train.steps=1", *TINY]
    assert main([*command, "data.eval_index=index.json"]) == 0
    config = Path("cmp/latent/config.yaml")
    relative = config.read_text().replace(f"{tmp_path}/", "")  # as an older version wrote it
    config.write_text(relative)
    assert "eval_index: index.json" in config.read_text()
    assert main([*command, "data.eval_index=index.json"]) == 0


def test_the_cache_changes_no_loss(root: Path, tmp_path: Path):
    losses = []
    for name, extra in {"cold": [], "warm": [], "none": ["cache.dir=null"]}.items():
        command = ["train-3dgs", "--data", "rooms", "--data-root", str(root)]
        command += ["--out", str(tmp_path / name), "train.steps=3", *TINY]
        assert main([*command, f"cache.dir={tmp_path / 'cache'}", *extra]) == 0
        losses.append([line["loss"] for line in lines(tmp_path / name / "metrics.jsonl")])
    assert losses[0] == losses[1]
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-2, atol=0)


def test_taps_needs_no_weights(capsys: pytest.CaptureFixture):
    assert main(["taps", "wan", "--frames", "49", "--height", "352", "--width", "640"]) == 0
    printed = capsys.readouterr().out
    assert "block.0" in printed
    assert "1536" in printed
    assert main(["taps", "flux"]) == 0
    printed = capsys.readouterr().out
    assert "double.18" in printed
    assert "single.37" in printed


def test_data_list_show_and_check(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["data", "list"]) == 0
    assert "RealEstate10K" in capsys.readouterr().out
    assert main(["data", "show", "re10k"]) == 0
    assert "videos/<key>.mp4" in capsys.readouterr().out
    command = ["data", "check", "rooms", "--data-root", str(root), "--out", str(tmp_path)]
    assert main(command) == 0
    assert list(tmp_path.glob("*.png"))
    assert list(tmp_path.glob("*.json"))


def test_doctor_tells_every_part(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    roomy = shutil.disk_usage(".")._replace(free=2**40)  # whatever the disk under the tests has
    monkeypatch.setattr(shutil, "disk_usage", lambda path: roomy)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for part in ("torch", "CUDA", "gsplat", "rasterizer", "video", "ffmpeg", "LPIPS", "disk"):
        assert part in printed
    assert "BROKEN" not in printed


def test_help_starts_fast_and_teaches():
    out = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mmdiff_video", "train-3dgs", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "examples:" in out.stdout
    assert " torch" not in out.stderr  # nothing heavy is imported for a help text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train-3dgs", "rooms needs none: it is made on the spot"),
        ("compare-3dgs", "rooms needs none: it is made on the spot"),
        ("taps", "a multiple of 16"),
        ("generate", "with Wan 1 + a multiple of 4"),
        ("predict", "OUT/FOLDER/NAME.png"),
        ("predict", "OUT/report.json lists what was written, and what was skipped"),
    ],
)
def test_help_says_what_a_first_user_asks(capsys, command: str, words: str):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert words in " ".join(capsys.readouterr().out.split())


def test_every_argument_of_every_command_says_what_it_is():
    def commands(parser: argparse.ArgumentParser):
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from commands(below)

    found = list(commands(_parser()))
    assert len(found) > 15
    silent = [
        f"{parser.prog} {action.dest}"
        for parser in found
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


def test_overrides_may_stand_anywhere(root: Path, tmp_path: Path, capsys):
    command = ["train-3dgs", "train.steps=1", "--data", "rooms", *TINY]
    command += ["--data-root", str(root), "train.lrr=1", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "did you mean 'train.lr'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*command, "stray"])
    assert stopped.value.code == 2
