"""`predict` and `generate` as a user types them."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dense import dense

from mmdiff_video.cli import main
from mmdiff_video.datasets.video_reader import count_frames
from mmdiff_video.dense import generate
from mmdiff_video.dense.generate import SampleConfig, _names, part_of, sample_for
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.errors import InputError
from mmdiff_video.pictures import save_video

MODES = {"seg": "P", "depth": "I;16", "saliency": "L", "normals": "RGB"}
"""Task -> Pillow's mode of its files."""


def test_predictions_are_files_that_other_programs_read(runs, stills, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(stills / "test/images/test00000.jpg", folder / "a.jpg")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 50, 4), dtype=np.uint8)).save(folder / "b.png")
    Image.fromarray(rng.integers(0, 65535, (33, 21), dtype=np.uint16)).save(folder / "c.png")
    (folder / "broken.png").write_text("no picture")
    for task, mode in MODES.items():
        out = tmp_path / task
        command = ["predict", str(runs[task]), str(folder), "--out", str(out)]
        assert main([*command, "--prompt", "A room."]) == 0
        assert "skipped" in capsys.readouterr().out
        for name, size in (("a", (64, 48)), ("b", (50, 20)), ("c", (21, 33))):
            with Image.open(out / "mine" / f"{name}.png") as picture:
                assert (picture.mode, picture.size) == (mode, size)
            with Image.open(out / "mine" / f"{name}_overlay.png") as picture:
                assert (picture.mode, picture.size) == ("RGB", size)
        report = json.loads((out / "report.json").read_text())
        assert len(report["written"]) == 3
        assert [Path(s["key"]).name for s in report["skipped"]] == ["broken.png"]
    depth = np.array(Image.open(tmp_path / "depth/mine/a.png"))
    assert 100 <= depth.min() <= depth.max() <= 10_000


def test_a_video_gets_a_prediction_for_every_frame(runs, tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (7, 32, 48, 3), dtype=np.uint8)
    save_video(frames, tmp_path / "walk.mp4", fps=5)
    out = tmp_path / "out"
    assert main(["predict", str(runs["depth"]), str(tmp_path / "walk.mp4"), "--out", str(out)]) == 0
    assert [p.name for p in sorted((out / "walk").iterdir())] == [f"{i:06d}.png" for i in range(7)]
    assert count_frames(out / "walk_overlay.mp4") == 7


def test_predictions_never_take_the_place_of_pictures(runs, tmp_path, capsys, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    Image.new("RGB", (48, 32), "red").save(mine / "a.png")
    Image.new("RGB", (48, 32), "red").save(mine / "b.jpg")
    save_video(np.zeros((3, 32, 48, 3), np.uint8), tmp_path / "walk.mp4", fps=5)
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "000000.png").write_bytes((mine / "a.png").read_bytes())
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.chdir(tmp_path)
    for inputs in ("mine", "mine/a.png", "walk.mp4"):
        out = "mine" if inputs == "mine/a.png" else "."
        assert main(["predict", str(runs["depth"]), inputs, "--out", out]) == 2
        assert "choose another --out" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert main(["predict", str(runs["depth"]), "mine/b.jpg", "--out", "mine"]) == 0


def test_what_cannot_be_predicted_is_skipped_whole(runs, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    Image.new("RGB", (3000, 1), "red").save(mine / "line.png")
    Image.new("RGB", (48, 32), "red").save(mine / "good.png")
    rng = np.random.default_rng(0)
    clip = tmp_path / "walk.mp4"
    save_video(rng.integers(0, 255, (40, 32, 48, 3), dtype=np.uint8), clip, fps=5)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    (mine / "walk.mp4").write_bytes(data)
    command = ["predict", str(runs["depth"]), str(mine), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    reasons = {Path(s["key"]).name: s["reason"] for s in report["skipped"]}
    assert "3000 x 1" in reasons["line.png"]
    assert "cannot be decoded" in reasons["walk.mp4"]
    left = sorted(p.name for p in (tmp_path / "out").rglob("[!.]*") if p.is_file())
    assert left == ["good.png", "good_overlay.png", "report.json"]
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_dir()) == ["mine"]


def test_a_shorter_video_leaves_no_frames_of_the_longer_one(runs, tmp_path):
    clip = tmp_path / "walk.mp4"
    for count in (6, 2):
        save_video(np.zeros((count, 32, 48, 3), np.uint8), clip, fps=5)
        assert main(["predict", str(runs["depth"]), str(clip), "--out", str(tmp_path / "o")]) == 0
        assert len(list((tmp_path / "o" / "walk").iterdir())) == count
        (tmp_path / "o" / "walk" / ".DS_Store").touch()  # as a file manager does


def test_heads_of_one_task_and_name_have_places_of_their_own(runs, tmp_path):
    head = str(runs["depth"])
    command = ["generate", "--prompt", "x", "--heads", head, head, "--out", str(tmp_path)]
    size = ["--steps", "6", "--frames", "1", "--height", "32", "--width", "48"]
    assert main([*command, *size]) == 0
    assert {p.name for p in tmp_path.glob("depth*")} == {
        "depth-depth-1.png",
        "depth-depth-1_overlay.png",
        "depth-depth-2.png",
        "depth-depth-2_overlay.png",
    }


def test_a_sample_alone_takes_any_number_of_steps(tmp_path):
    command = ["generate", "--prompt", "x", "--backbone", "nano-wan-random", "--steps", "1"]
    command += ["--frames", "1", "--height", "32", "--width", "48", "--out", str(tmp_path)]
    assert main(command) == 0
    assert (tmp_path / "sample.png").is_file()


def test_a_damaged_note_of_a_run_is_named(runs, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(runs["depth"], copy)
    Image.new("RGB", (48, 32)).save(picture := tmp_path / "a.png")
    for text in ("{", "{}", "[]"):
        (copy / "dense.json").write_text(text)
        assert main(["predict", str(copy), str(picture), "--out", str(tmp_path / "o")]) == 2
        assert "dense.json' is damaged" in capsys.readouterr().err


def test_three_lines_to_a_prediction_and_a_saved_model_predicts_the_same(runs, tmp_path, nano_wan):
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    model = DenseModel.from_pretrained(runs["depth"], nano_wan)
    depth = model.predict(images)
    assert depth.shape == (2, 1, 40, 56)
    model.save_pretrained(tmp_path / "saved")
    saved = DenseModel.from_pretrained(tmp_path / "saved", nano_wan)
    assert torch.equal(saved.predict(images), depth)
    alone = model.predict(images[1:])
    torch.testing.assert_close(alone[0], depth[1], atol=1e-4, rtol=1e-4)
    for predict, wrong in ((model.predict, images[0]), (model.predict_video, images[None])):
        with pytest.raises(InputError, match=r"pictures must be \[N, 3, H, W\], not"):
            predict(wrong)


def test_heads_read_the_sampling_run_and_leave_the_sample_as_it_is(
    runs, tmp_path, nano_wan, monkeypatch
):
    encoded = []  # the frames: an encoder's bytes may differ from call to call

    def save_and_keep(frames, path, fps):
        encoded.append(frames)
        save_video(frames, path, fps)

    monkeypatch.setattr(generate, "save_video", save_and_keep)
    command = ["generate", "--prompt", "A red sofa.", "--steps", "6", "--frames", "5"]
    command += ["--height", "32", "--width", "48", "--seed", "3"]
    heads = [str(runs[task]) for task in MODES]
    assert main([*command, "--heads", *heads, "--out", str(tmp_path / "with")]) == 0
    assert main([*command, "--backbone", "nano-wan-random", "--out", str(tmp_path / "bare")]) == 0
    assert np.array_equal(*encoded)
    assert count_frames(tmp_path / "with/sample.mp4") == 5
    for task, mode in MODES.items():
        frames = sorted((tmp_path / "with" / task).glob("*.png"))
        assert len(frames) == 5
        with Image.open(frames[4]) as picture:
            assert (picture.mode, picture.size) == (mode, (48, 32))
        assert count_frames(tmp_path / "with" / f"{task}_overlay.mp4") == 5
    report = json.loads((tmp_path / "with" / "report.json").read_text())
    assert len(report["read_at_sigmas"]) == len(report["asked_timesteps"]) == 4


def test_heads_with_other_taps_and_timesteps_share_one_run(runs, stills, tmp_path, nano_wan):
    other = tmp_path / "other"
    assert dense("depth", stills, other, "backbone.taps=[0]", "backbone.timesteps=[0.6]") == 0
    models = [DenseModel.from_pretrained(run, nano_wan) for run in (runs["depth"], other)]
    sample = SampleConfig(height=32, width=48, frames=1, steps=8)
    found = sample_for(nano_wan, models, "A chair.", sample)
    alone = sample_for(nano_wan, models[1:], "A chair.", sample)
    assert torch.equal(found.video, alone.video)
    together, single = (
        models[1].predict_features(part_of(read.features, models[1]), read.video)
        for read in (found, alone)
    )
    torch.testing.assert_close(together, single)


def test_concept_maps_are_read_at_the_heads_own_timesteps_or_not_at_all(
    runs, stills, tmp_path, nano_wan
):
    words = tmp_path / "words"
    assert dense("depth", stills, words, "concept_maps=true", "backbone.timesteps=[0.6]") == 0
    models = [DenseModel.from_pretrained(run, nano_wan) for run in (words, runs["depth"])]
    sample = SampleConfig(height=32, width=48, frames=1, steps=8)
    assert sample_for(nano_wan, models[:1], "A chair.", sample).features.timesteps == (0.6,)
    for heads in (models, models[::-1]):
        with pytest.raises(InputError, match="different timesteps"):
            sample_for(nano_wan, heads, "A chair.", sample)


def test_heads_on_another_backbone_are_refused(runs, tmp_path, capsys):
    command = ["generate", "--prompt", "x", "--heads", str(runs["seg"]), "--backbone", "nano-flux"]
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "must share a backbone" in capsys.readouterr().err


def test_clips_of_any_length_are_predicted_whole(runs, nano_wan):
    model = DenseModel.from_pretrained(runs["seg"], nano_wan)
    for count in (1, 4, 6):
        assert model.predict_video(torch.rand(count, 3, 32, 48)).shape == (count, 1, 32, 48)
    with pytest.raises(InputError, match=r"\[N, 3, H, W\]"):
        model.predict(torch.rand(3, 32, 48))


def test_heads_of_any_names_never_share_a_place(tmp_path):
    def named(*heads: str) -> list[str]:
        task = SimpleNamespace(setup=SimpleNamespace(task=SimpleNamespace(name="depth")))
        return _names(cast(list[DenseModel], [task] * len(heads)), heads)

    assert named("runs/depth") == ["depth"]
    assert named("runs/a", "me/b") == ["depth-a", "depth-b"]
    for heads in (
        ["p/a", "q/a", "r/a-1"],
        ["p/a", "q/A"],
        [".", "../x"],
        ["x/..", "y/.."],
        ["/", "/"],
    ):
        names = named(*heads)
        assert len({name.casefold() for name in names}) == len(heads)
        assert all("/" not in name and not name.endswith("..") for name in names)
