"""`dense` and `eval-dense` as a user types them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_dense import SHORT, dense

from mmdiff_video.cli import main
from mmdiff_video.dense.generate import SampleConfig, sample_for
from mmdiff_video.dense.joint import give_share, members_of
from mmdiff_video.dense.model import build_model
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import resolve_dense_config
from mmdiff_video.dense.task_data import TaskData


@pytest.mark.parametrize(
    ("task", "metric", "constant"),
    [
        ("seg", "mIoU", "majority class"),
        ("depth", "AbsRel", "median depth"),
        ("saliency", "Sm", "centre prior (mean mask)"),
        ("normals", "<11.25", "mean normal"),
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
    command += ["--task", "normals", "loss.cosine=0.5", "loss.silog=2"]
    command += ["--data", "rooms", "--data-root", str(stills), "--backbone", "nano-wan-random"]
    command += [*SHORT, "concept_maps=true", f"cache.dir={tmp_path / 'cache'}"]
    joint = tmp_path / "joint"
    assert main([*command, "--out", str(joint), "train.steps=4"]) == 0
    assert "head on features" in capsys.readouterr().out
    facts = json.loads((joint / "run.json").read_text())
    weights = facts["details"]["task_weights"]
    # three views of each task, one below the other
    assert list(weights) == ["seg", "depth", "saliency", "normals"]
    single, together = (
        Image.open(run / "previews" / "step-000003.png") for run in (runs["depth"], joint)
    )
    assert together.width == single.width
    assert 3 * single.height < together.height <= 4 * single.height
    assert sum(weights.values()) == pytest.approx(4)
    images = torch.rand(1, 3, 32, 48)
    models = [DenseModel.from_pretrained(joint / t, nano_wan) for t in weights]
    shared = [m.setup.model.maps.state_dict() for m in models]
    assert all(torch.equal(s[name], shared[0][name]) for s in shared for name in s)
    assert models[0].predict(images).max() < 20
    assert 0.1 <= models[1].predict(images).min() <= models[1].predict(images).max() <= 10
    assert 0 <= models[2].predict(images).min() <= models[2].predict(images).max() <= 1
    lengths = models[3].predict(images).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert all((joint / t / "eval.json").is_file() for t in weights)
    losses = {t: json.loads((joint / t / "dense.json").read_text())["loss"] for t in weights}
    assert losses["normals"] == {"cosine": 0.5, "angle": 1.0}
    assert losses["depth"]["silog"] == 2.0
    # all of them read the same concepts, so that they can share one sampling run
    sample = SampleConfig(height=32, width=48, frames=1, steps=6)
    assert sample_for(nano_wan, models, "A chair.", sample).features.concepts is not None

    for verb in ("eval", "eval-dense"):
        assert main([verb, str(joint), "--data-root", str(stills)]) == 0
        assert capsys.readouterr().out.count("head on features") == len(weights)
    picture = str(stills / "test/images/test00000.jpg")
    assert main(["predict", str(joint), picture, "--out", str(tmp_path / "found")]) == 0
    assert all((tmp_path / "found" / t / "test00000.png").is_file() for t in weights)
    assert main(["generate", "--prompt", "x", "--heads", str(joint), "--out", str(tmp_path)]) == 2
    assert "the folder of that task in it" in capsys.readouterr().err

    shutil.rmtree(joint / "checkpoints" / "step-000004")
    before = (joint / "metrics.jsonl").read_text()
    assert main([*command, "--out", str(joint), "--resume", "train.steps=4"]) == 0
    losses = [
        [json.loads(line)["loss"] for line in text.splitlines()]
        for text in (before, (joint / "metrics.jsonl").read_text())
    ]
    assert losses[0] == losses[1]


def test_one_data_root_cannot_serve_tasks_with_different_sets(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("task: seg\n")
    (tmp_path / "run.json").write_text(
        json.dumps({"kind": "joint", "details": {"tasks": ["seg", "depth"]}})
    )
    for task, data in {"seg": "voc", "depth": "nyu"}.items():
        (tmp_path / task).mkdir()
        config = f"task: {task}\ndata: {{name: {data}}}\n"
        (tmp_path / task / "config.yaml").write_text(config)
    assert main(["eval", str(tmp_path), "--data-root", str(tmp_path)]) == 2
    assert "data sets of their own (nyu, voc)" in capsys.readouterr().err


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
        ("loss.silog=.nan", "loss.silog is nan"),
        ("loss.bce=2", "'loss.bce' has no meaning with the chosen 'task'"),
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
