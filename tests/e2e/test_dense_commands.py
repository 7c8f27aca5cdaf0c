"""`dense`, `eval-dense` and `predict` as a user types them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dense import TINY

from mmdiff_video.cli import main
from mmdiff_video.datasets.rooms.make import make_rooms
from mmdiff_video.datasets.video_reader import count_frames
from mmdiff_video.dense import generate
from mmdiff_video.dense.generate import SampleConfig, draw, part_of
from mmdiff_video.dense.model import build_model
from mmdiff_video.dense.multitask import TaskData, give_share, members_of
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import resolve_dense_config
from mmdiff_video.errors import InputError
from mmdiff_video.pictures import save_video

SHORT = [*TINY, "train.steps=3"]


@pytest.fixture(scope="module")
def stills(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stills") / "rooms"
    return make_rooms(root, layout="folders", scenes=5, width=64, height=48, jobs=1)


def dense(task: str, root: Path, out: Path, *more: str) -> int:
    command = ["dense", "--task", task, "--data", "rooms", "--data-root", str(root)]
    return main([*command, "--backbone", "nano-wan-random", "--out", str(out), *SHORT, *more])


@pytest.fixture(scope="module")
def runs(stills, tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("runs")
    for task in ("seg", "depth", "saliency"):
        assert dense(task, stills, base / task) == 0
    return {task: base / task for task in ("seg", "depth", "saliency")}


@pytest.mark.parametrize(
    ("task", "metric", "constant"),
    [
        ("seg", "mIoU", "majority class"),
        ("depth", "AbsRel", "median depth"),
        ("saliency", "Sm", "centre prior (mean mask)"),
    ],
)
def test_a_run_leaves_scores_beside_a_constant_and_pictures(runs, task, metric, constant):
    run = runs[task]
    report = json.loads((run / "eval.json").read_text())
    assert report["pictures"] == 1
    assert report["scores"][metric] is not None
    assert report["constant"]["label"] == constant
    assert report["constant"]["scores"][metric] is not None
    assert "untrained" in report["notice"]
    assert "resized to cover 48x32" in report["protocol"]
    assert len(list((run / "eval").glob("*.png"))) == 1
    assert (run / "previews" / "step-000003.png").is_file()
    counts = json.loads((run / "run.json").read_text())["parameters"]
    assert counts["aggregators"] + counts["head"] == counts["total"]


def test_the_table_tells_protocol_and_notice(runs, stills, capsys):
    assert main(["eval-dense", str(runs["depth"]), "--data-root", str(stills)]) == 0
    table = capsys.readouterr().out
    for text in ("head on features", "median depth", "AbsRel", "0.1 to 10 m", "untrained"):
        assert text in table


def test_predictions_are_files_that_other_programs_read(runs, stills, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(stills / "test/images/test00000.jpg", folder / "a.jpg")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 50, 4), dtype=np.uint8)).save(folder / "b.png")
    Image.fromarray(rng.integers(0, 65535, (33, 21), dtype=np.uint16)).save(folder / "c.png")
    (folder / "broken.png").write_text("no picture")
    for task, mode in (("seg", "P"), ("depth", "I;16"), ("saliency", "L")):
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
    left = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
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
    assert depth.shape == (2, 40, 56)
    model.save_pretrained(tmp_path / "saved")
    saved = DenseModel.from_pretrained(tmp_path / "saved", nano_wan)
    assert torch.equal(saved.predict(images), depth)
    alone = model.predict(images[1:])
    torch.testing.assert_close(alone[0], depth[1], atol=1e-4, rtol=1e-4)


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
    heads = [str(runs[task]) for task in ("seg", "depth", "saliency")]
    assert main([*command, "--heads", *heads, "--out", str(tmp_path / "with")]) == 0
    assert main([*command, "--backbone", "nano-wan-random", "--out", str(tmp_path / "bare")]) == 0
    assert np.array_equal(*encoded)
    assert count_frames(tmp_path / "with/sample.mp4") == 5
    for task, mode in (("seg", "P"), ("depth", "I;16"), ("saliency", "L")):
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
    found = draw(nano_wan, models, "A chair.", sample)
    alone = draw(nano_wan, models[1:], "A chair.", sample)
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
    assert draw(nano_wan, models[:1], "A chair.", sample).features.timesteps == (0.6,)
    for heads in (models, models[::-1]):
        with pytest.raises(InputError, match="different timesteps"):
            draw(nano_wan, heads, "A chair.", sample)


def test_heads_on_another_backbone_are_refused(runs, tmp_path, capsys):
    command = ["generate", "--prompt", "x", "--heads", str(runs["seg"]), "--backbone", "nano-flux"]
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "must share a backbone" in capsys.readouterr().err


def test_clips_of_any_length_are_predicted_whole(runs, nano_wan):
    model = DenseModel.from_pretrained(runs["seg"], nano_wan)
    for count in (1, 4, 6):
        assert model.predict_video(torch.rand(count, 3, 32, 48)).shape == (count, 32, 48)
    with pytest.raises(InputError, match=r"\[N, 3, H, W\]"):
        model.predict(torch.rand(3, 32, 48))


def test_a_stopped_run_goes_on_where_it_was(runs, stills, tmp_path):
    out = tmp_path / "resumed"
    shutil.copytree(runs["depth"], out)
    shutil.rmtree(out / "checkpoints" / "step-000003")
    assert dense("depth", stills, out, "--resume") == 0
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (out, runs["depth"])
    ]
    assert losses[0] == losses[1]


def test_resuming_on_other_features_is_refused(runs, stills, tmp_path, capsys):
    out = tmp_path / "resumed"
    shutil.copytree(runs["depth"], out)
    more = ("--resume", "train.steps=4", "backbone.timesteps=[0.3]")
    assert dense("depth", stills, out, *more) == 2
    assert "cannot resume with timesteps [0.3]" in capsys.readouterr().err


def test_a_head_whose_backbone_has_changed_is_opened_with_a_warning(
    runs, tmp_path, nano_wan, caplog
):
    folder = tmp_path / "run"
    shutil.copytree(runs["depth"], folder)
    DenseModel.from_pretrained(folder, nano_wan)
    assert "other weights" not in caplog.text
    facts = json.loads((folder / "dense.json").read_text())
    (folder / "dense.json").write_text(json.dumps({**facts, "backbone_fingerprint": "others"}))
    DenseModel.from_pretrained(folder, nano_wan)
    assert "was trained on other weights" in caplog.text


def test_an_image_backbone_and_the_latent_baseline_run_too(stills, tmp_path):
    command = ["dense", "--task", "seg", "--data", "rooms", "--data-root", str(stills)]
    command += ["--backbone", "nano-flux", *SHORT]
    for source in ("features", "latent"):
        assert main([*command, "--input", source, "--out", str(tmp_path / source)]) == 0
        report = json.loads((tmp_path / source / "eval.json").read_text())
        assert report["input"] == source


def test_the_cache_changes_no_loss(stills, tmp_path):
    losses = []
    for name, folder in (("none", "null"), ("cold", tmp_path / "c"), ("warm", tmp_path / "c")):
        more = (f"cache.dir={folder}", "data.views=1", "train.steps=4")
        assert dense("depth", stills, tmp_path / name, *more) == 0
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[1] == losses[2]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=0)


def test_one_decoder_learns_all_tasks_and_leaves_a_run_of_each(
    runs, stills, tmp_path, nano_wan, capsys
):
    command = ["dense", "--task", f"seg=rooms:{stills}", "--task", "depth", "--task", "saliency"]
    command += ["--data", "rooms", "--data-root", str(stills), "--backbone", "nano-wan-random"]
    command += [*SHORT, "concept_maps=true", f"cache.dir={tmp_path / 'cache'}"]
    joint = tmp_path / "joint"
    assert main([*command, "--out", str(joint), "train.steps=4"]) == 0
    assert "head on features" in capsys.readouterr().out
    facts = json.loads((joint / "run.json").read_text())
    weights = facts["task_weights"]
    # three views of each task, one below the other
    single, together = (
        Image.open(run / "previews" / "step-000003.png") for run in (runs["depth"], joint)
    )
    assert together.width == single.width
    assert 2 * single.height < together.height <= 3 * single.height
    assert sum(weights.values()) == pytest.approx(3)
    images = torch.rand(1, 3, 32, 48)
    models = [DenseModel.from_pretrained(joint / t, nano_wan) for t in weights]
    shared = [m.setup.model.maps.state_dict() for m in models]
    assert all(torch.equal(s[name], shared[0][name]) for s in shared for name in s)
    assert models[0].predict(images).max() < 20
    assert 0.1 <= models[1].predict(images).min() <= models[1].predict(images).max() <= 10
    assert 0 <= models[2].predict(images).min() <= models[2].predict(images).max() <= 1
    assert all((joint / t / "eval.json").is_file() for t in weights)
    # all of them read the same concepts, so that they can share one sampling run
    sample = SampleConfig(height=32, width=48, frames=1, steps=6)
    assert draw(nano_wan, models, "A chair.", sample).features.concepts is not None

    shutil.rmtree(joint / "checkpoints" / "step-000004")
    before = (joint / "metrics.jsonl").read_text()
    assert main([*command, "--out", str(joint), "--resume", "train.steps=4"]) == 0
    losses = [
        [json.loads(line)["loss"] for line in text.splitlines()]
        for text in (before, (joint / "metrics.jsonl").read_text())
    ]
    assert losses[0] == losses[1]


def test_a_joint_model_gives_each_task_what_it_computes(stills, nano_wan, tmp_path):
    config = resolve_dense_config(None, ["backbone.name=nano-wan-random", *SHORT])
    data = replace(config.data, root=str(stills))
    members = members_of(replace(config, data=data), [TaskData("depth"), TaskData("seg")], nano_wan)
    setup = members["depth"].setup
    joint = build_model(setup.config, nano_wan, outputs=21, head="dpt").eval()
    features = setup.source(torch.rand(1, 3, 1, 32, 48), ["a"])
    whole = joint(features)
    for member in members.values():
        give_share(joint, member)
        own = member.setup.model.eval()(features)
        torch.testing.assert_close(own, whole[:, member.outputs])


def test_broken_pictures_are_counted_and_training_goes_on(stills, tmp_path):
    root = Path(shutil.copytree(stills, tmp_path / "rooms"))
    (root / "train/images/train00001.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("L", (64, 48)).save(root / "train/depth/train00002.png")
    Image.new("I;16", (9, 9)).save(root / "test/depth/test00000.png")
    assert dense("depth", root, tmp_path / "run", "train.steps=4") == 0
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert set(json.dumps(skipped).split('"')) >= {"train00001", "train00002"}
    report = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert report["pictures"] == 0
    assert report["scores"]["AbsRel"] is None
    assert "its label 9x9" in report["skipped"][0]["reason"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.height=0", "height 0"),
        ("data.width=-16", "nearest: 16"),
        ("loss.silog=-1", "loss.silog is -1.0: it must be 0 or more"),
        ("loss.bce=.nan", "loss.bce is nan"),
        ("loss={silog: 0, gradient: 0}", "with loss.silog and loss.gradient at 0"),
        ("loss.gradient_scales=0", "loss.gradient_scales is 0"),
        ("loss.variance_focus=2", "loss.variance_focus must be in [0, 1]"),
        ("cache.budget_gb=-1", "cache.budget_gb is -1.0"),
        ("head_lr_factor=.inf", "head_lr_factor is inf"),
        ("data.split_seed=-3", "data.split_seed is -3"),
        ("data.max_images=0", "data.max_images is 0: it must be 1 or more"),
        ("data.max_eval_images=-5", "data.max_eval_images is -5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(stills, tmp_path, capsys, override, message):
    assert dense("depth", stills, tmp_path / "run", override) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_scoring_no_picture_is_refused(runs, capsys):
    for number in ("0", "-5"):
        assert main(["eval-dense", str(runs["depth"]), "--max-images", number]) == 2
        assert f"--max-images is {number}: it must be 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["dense", "--task", "depth", "--data", "duts", "--data-root", "{root}"], "no labels for"),
        (["dense", "--task", "seg", "--data", "voc", "--data-root", "{root}"], "no list"),
        (["dense", "--task", "seg", "--data", "voc"], "needs a data root"),
        (["dense", "--task", "depht"], "did you mean 'depth'"),
        (["dense", "--task", "seg", "--task", "seg"], "joint training needs different tasks"),
        (["dense", "--task", "seg", "--data", "coco"], "unknown data set of labelled pictures"),
        (["predict", "{root}", "{root}/classes.txt"], "neither a picture nor a video"),
        (["predict", "{root}", "{root}/train"], "no picture and no video"),
        (["predict", "{root}", "{root}/train/images"], "not a finished run"),
        (["predict", "{root}/nowhere/at/all", "{root}/train/images"], "no folder, and no id"),
        (["predict", "{root}", "missing.png"], "there is no 'missing.png'"),
    ],
)
def test_mistakes_are_one_sentence(stills, tmp_path, capsys, command, message):
    words = [word.format(root=stills) for word in command]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
