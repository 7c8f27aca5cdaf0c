"""What a run folder, ours or a stranger's, can make the commands do: nothing outside of it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tiny_dense import SHORT, dense

from mmdiff_video.cli import main
from mmdiff_video.files import remove_folder, remove_partials
from mmdiff_video.locks import sole_writer
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.rooms.make import make_rooms

TINY_3DGS = [
    "data.frames=5",
    "data.height=32",
    "data.width=48",
    "data.targets=1",
    "data.eval_targets=1",
    "data.span=[7,12]",
    "aggregator.width=16",
    "aggregator.depth=1",
    "aggregator.heads=4",
    "backbone.taps=[1]",
    "decoder.width=16",
    "decoder.depth=1",
    "decoder.heads=2",
    "decoder.output_space_stride=8",
    "train.steps=1",
    "train.preview_every=0",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("few") / "rooms"
    return make_rooms(root, layout="folders", scenes=3, width=64, height=48, jobs=1)


@pytest.fixture(scope="module")
def depth(pictures: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "depth"
    assert dense("depth", pictures, out, "train.steps=1", "data.max_eval_images=1") == 0
    return out


@pytest.fixture(scope="module")
def decoder(root: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "decoder"
    command = ["train-3dgs", "--data-root", str(root), "--backbone", "nano-wan-random"]
    assert main([*command, "--out", str(out), *TINY_3DGS]) == 0
    return out


@pytest.fixture
def copy(depth: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(depth, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def edit(file: Path, **changes: object) -> None:
    """Set dotted keys of a config."""
    config = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        *above, last = key.split("__")
        node = config
        for part in above:
            node = node[part]
        node[last] = value
    file.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    "command",
    [
        ["train-3dgs", *TINY_3DGS],
        ["dense", "--task", "depth", *SHORT],
        ["dense", "--task", "depth", "--task", "saliency", *SHORT],
        ["compare-3dgs", *TINY_3DGS],
        ["demo"],
        ["pretrain", "vae", "--backbone", "nano-flux"],
        ["pretrain", "dit", "--backbone", "nano-flux"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_folder_that_another_process_writes_is_refused_and_stays_as_it_is(
    root: Path, pictures: Path, tmp_path: Path, capsys, command: list[str]
):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text("of the other process\n")
    if command[0] in ("train-3dgs", "compare-3dgs", "dense"):
        data = pictures if command[0] == "dense" else root
        command = [*command, "--data-root", str(data), "--backbone", "nano-wan-random"]
    with sole_writer(out, "training"):
        assert main([*command, "--out", str(out)]) == 2
    assert f"'{out}' is in use by another process" in capsys.readouterr().err
    assert contents(out) == {"config.yaml": b"of the other process\n"}


def test_two_that_score_the_same_run_do_not_mix_and_training_does_not_stop_them(copy: Path, capsys):
    with sole_writer(copy / "eval.json", "scoring"):
        before = contents(copy)
        assert main(["eval", str(copy)]) == 2
        assert "in use by another process (scoring)" in capsys.readouterr().err
        assert contents(copy) == before
    with sole_writer(copy, "training"):
        assert main(["eval", str(copy)]) == 0


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "step-000001").mkdir()
    (folder / "precious").write_text("mine")
    (folder / "step-000001" / "precious").write_text("mine")
    before = contents(folder)
    yield folder
    assert contents(folder) == before


@pytest.mark.parametrize(
    "link", ["checkpoints", "previews", "tensorboard", "eval", "metrics.jsonl", "a/b/deep",
             "checkpoints/step-000009"],
)  # fmt: skip
def test_a_link_out_of_a_run_folder_is_refused(
    pictures: Path, copy: Path, elsewhere: Path, capsys, link: str
):
    path = copy / link
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(elsewhere / "precious" if link.endswith("jsonl") else elsewhere)
    assert dense("depth", pictures, copy, "train.steps=2", "--resume") == 2
    assert f"'{path}' is a link to '{elsewhere}" in capsys.readouterr().err
    assert main(["eval", str(copy)]) == 2
    assert f"'{path}' is a link to" in capsys.readouterr().err


def test_an_unfinished_file_that_is_a_link_goes_and_its_target_stays(
    pictures: Path, copy: Path, elsewhere: Path
):
    for name, target in (("x", elsewhere), ("y", elsewhere / "precious"), ("z", Path("nowhere"))):
        (copy / "checkpoints" / f".partial-{name}").symlink_to(target)
    assert dense("depth", pictures, copy, "train.steps=2", "--resume") == 0
    assert not list((copy / "checkpoints").glob(".partial-*"))


def test_of_a_link_only_the_link_is_deleted(tmp_path: Path, elsewhere: Path):
    (tmp_path / "link").symlink_to(elsewhere)
    remove_folder(tmp_path / "link")
    (tmp_path / ".partial-a").symlink_to(elsewhere)
    (tmp_path / ".partial-b").symlink_to(elsewhere / "precious")
    remove_partials(tmp_path)
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_the_cache_that_a_strangers_run_names_is_not_touched(decoder: Path, tmp_path: Path):
    run = Path(shutil.copytree(decoder, tmp_path / "run"))
    models = tmp_path / "models"
    entry = models / "ab" / f"{'ab' * 32}.safetensors"
    for path in (entry, models / "v1" / "model.safetensors"):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(2_000_000))
    before = contents(models)
    edit(run / "config.yaml", cache__dir=str(models), cache__budget_gb=1e-4)
    out = tmp_path / "out.mp4"
    assert main(["eval", str(run), "--max-clips", "1"]) == 0
    assert main(["render", str(run), "--out", str(out), "--frames", "1"]) == 0
    assert contents(models) == before
    assert Reconstructor.from_run(run).setup.source.cache is None


def test_a_run_does_not_read_the_environment(copy: Path, monkeypatch, capsys):
    monkeypatch.setenv("SECRET", str(copy))
    edit(copy / "config.yaml", data__root="${oc.env:SECRET}", backbone__prompt="${oc.env:SECRET}")
    assert main(["eval", str(copy)]) == 2
    assert "${oc.env:SECRET}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "task", ["../elsewhere", "/tmp", "..", "", "seg/../../x", ["seg"], 7, None]
)
def test_the_tasks_of_a_run_are_no_paths(copy: Path, elsewhere: Path, capsys, task: object):
    facts = {"kind": "joint", "details": {"tasks": [task, "depth"]}}
    (copy / "run.json").write_text(json.dumps(facts))
    for command in (["eval", str(copy)], ["predict", str(copy), "x.png", "--out", str(copy / "p")]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
