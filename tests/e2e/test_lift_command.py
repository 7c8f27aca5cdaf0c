"""`lift` as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
from room_scene import FRAMES, draw, write_room_scene

from mmdiff_video.cli import main
from mmdiff_video.scenes.labels.stored import load_labels


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_room_scene(tmp_path_factory.mktemp("scenes") / "room", draw())


def lift(scene: Path, *heads: Path | str, more: tuple[str, ...] = ()) -> int:
    return main(["lift", str(scene), "--heads", *map(str, heads), *more])


def test_all_heads_label_a_scene(room, runs, tmp_path, capsys):
    scene = shutil.copytree(room, tmp_path / "room")
    assert lift(scene, *runs.values(), more=("--prompt", "A room.")) == 0
    said = capsys.readouterr().out
    assert f" on {FRAMES * 48 * 32:,} Gaussians" in said
    labels = load_labels(scene)
    assert labels is not None
    assert set(labels.heads) == {"seg", "saliency", "normals"}
    report = json.loads((scene / "lift.json").read_text())
    assert set(report["heads"]) == set(runs)
    assert report["heads"]["seg"]["run"] == str(runs["seg"])
    assert report["heads"]["depth"]["metres_per_unit"] > 0
    assert "random" in report["notice"]
    assert report["notice"] in said


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        (["gone"], "is no folder"),
        (["empty"], "not a finished run of `mmdiff-video dense`"),
        (["unfinished"], "no model.safetensors"),
        (["splats"], "a run of `mmdiff-video train-3dgs`"),
        (["joint"], "the folder of that task"),
        (["seg", "seg"], "both heads for seg"),
        (["seg", "copy"], "both heads for seg"),
        (["damaged"], "is damaged"),
    ],
)
def test_heads_that_no_scene_takes_are_refused_before_any_work(
    room, runs, tmp_path, capsys, heads, said
):
    scene = shutil.copytree(room, tmp_path / "room")
    (tmp_path / "empty").mkdir()
    shutil.copytree(runs["seg"], tmp_path / "copy")
    (shutil.copytree(runs["seg"], tmp_path / "unfinished") / "model.safetensors").unlink()
    (shutil.copytree(runs["seg"], tmp_path / "damaged") / "dense.json").write_text("{}")
    for kind in ("3dgs", "joint"):
        folder = shutil.copytree(runs["seg"], tmp_path / {"3dgs": "splats"}.get(kind, kind))
        facts = json.loads((folder / "run.json").read_text())
        facts |= {"kind": kind, "details": {"tasks": ["seg"]}}
        (folder / "run.json").write_text(json.dumps(facts))
    paths = [runs.get(head, tmp_path / head) for head in heads]
    assert lift(scene, *paths) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("error: ")
    assert "\n" not in error
    assert sorted(p.name for p in scene.iterdir()) == ["capture", "scene.ply"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: shutil.rmtree(s), "no scene"),
        (lambda s: shutil.rmtree(s / "capture"), "has no capture/"),
        (lambda s: (s / "scene.ply").unlink(), "no scene"),
        (lambda s: (s / "scene.ply").write_bytes(b"\0" * 40), "not a PLY"),
    ],
)
def test_what_is_no_scene_is_refused(room, runs, tmp_path, capsys, spoil, said):
    scene = shutil.copytree(room, tmp_path / "room")
    spoil(scene)
    assert lift(scene, runs["seg"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("side", ["0", "-3", "15"])
def test_a_size_that_makes_no_sense_is_refused(room, runs, capsys, side):
    assert lift(room, runs["seg"], more=("--longest-side", side)) == 2
    assert "longest_side" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(room, runs, capsys, tight_disk):
    assert lift(room, runs["seg"]) == 2
    assert "File too large" in capsys.readouterr().err
    assert sorted(p.name for p in room.iterdir() if p.name != ".lock") == ["capture", "scene.ply"]
