"""Run folders: the config that suits a backbone, run.json, and telling one kind from another."""

import json
import shutil
from pathlib import Path

import pytest

from mmdiff_video.cli import main
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import resolve_dense_config
from mmdiff_video.errors import InputError
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.runs import KINDS, RunFacts, open_run
from mmdiff_video.score import SCORERS
from mmdiff_video.skipped import Skipped
from mmdiff_video.version import __version__

OLD = Path(__file__).parent / "fixtures" / "v0_1"

FACTS = RunFacts(
    kind="joint",
    version=__version__,
    backbone="nano-wan",
    backbone_fingerprint="12ab",
    untrained_backbone=False,
    parameters={"head": 3, "total": 3},
    samples=7,
    skipped=(Skipped("seg:a", "no label"),),
    note="a seeded choice",
    details={"tasks": ["seg", "depth"], "task_weights": {"seg": 0.5, "depth": 1.5}},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("task: seg\nbackbone: {name: nano-wan}\n")
    return tmp_path


def test_an_exported_folder_of_a_small_backbone_gets_the_config_for_a_laptop():
    name = ("backbone.name", str(OLD / "tiny-wan"))
    config = resolve_config(None, [name])
    assert config.train.steps == resolve_config("3dgs-nano", []).train.steps == 1000
    assert config.aggregator.width == 128
    assert config.backbone.name == str(OLD / "tiny-wan")
    dense = resolve_dense_config(None, [name])
    assert dense.train == resolve_dense_config("dense-nano", []).train
    assert resolve_config(None, [("backbone.name", "wan")]).aggregator.width == 768


def test_a_folder_whose_name_reads_as_a_number_stays_a_folder(monkeypatch: pytest.MonkeyPatch):
    seen = {}
    monkeypatch.setattr(
        "mmdiff_video.nvs.train.train_3dgs", lambda config, out, resume: seen.update(config=config)
    )
    assert main(["train-3dgs", "--data-root", "2024_01", "--out", "run"]) == 0
    assert seen["config"].data.root == "2024_01"


def test_unknown_variants_are_refused_by_name():
    with pytest.raises(InputError, match="unknown aggregator 'median'"):
        resolve_config(None, ["aggregation=median"])


def test_facts_read_back_as_they_were_written(folder: Path):
    FACTS.save(folder)
    assert open_run(folder).facts == FACTS


@pytest.mark.parametrize(
    ("run", "kind", "samples"),
    [("nvs", "3dgs", 2), ("depth", "dense", 3), ("joint", "joint", 6), ("joint/seg", "dense", 0)],
)
def test_runs_of_version_0_1_tell_their_kind_config_and_facts(run: str, kind: str, samples: int):
    opened = open_run(OLD / run)
    facts = opened.facts
    assert (facts.kind, facts.samples) == (kind, samples)
    assert facts.backbone == "tiny-wan"
    schema = NVSConfig if kind == "3dgs" else DenseConfig
    assert opened.read_config(schema).backbone.name == "tiny-wan"
    if run in ("nvs", "depth"):
        assert facts.backbone_fingerprint == "907928aa3986d3945173983a798af3de"
        assert facts.untrained_backbone
        assert facts.parameters["total"] > 0
    if run == "joint":
        assert facts.details["tasks"] == ["seg", "depth"]
        assert sum(facts.details["task_weights"].values()) == pytest.approx(2)


def test_a_run_of_0_1_that_was_stopped_before_its_model_was_saved_is_known(tmp_path: Path):
    shutil.copytree(OLD / "depth", tmp_path / "run")
    (tmp_path / "run" / "dense.json").unlink()
    assert open_run(tmp_path / "run").facts.kind == "dense"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        '{"kind": [1]}',
        '{"kind": "joint"}',
        '{"kind": "dense", "samples": "many"}',
        '{"kind": "dense", "samples": 1e400}',
        '{"kind": "dense", "samples": NaN}',
        '{"kind": "dense", "parameters": [1]}',
        '{"kind": "dense", "parameters": {"total": {}}}',
        '{"kind": "dense", "skipped": [{"key": "a"}]}',
        '{"kind": "dense", "skipped": 7}',
        '{"kind": "dense", "details": 7}',
        '{"clips": "a"}',
    ],
)
def test_damaged_facts_are_named(folder: Path, text: str):
    (folder / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json' is damaged: delete it"):
        open_run(folder)


def test_a_kind_that_is_not_known_is_named(folder: Path):
    (folder / "run.json").write_text('{"kind": "4dgs"}')
    with pytest.raises(InputError, match=r"unknown kind of run in '.*run\.json' '4dgs'"):
        open_run(folder)


def test_folders_that_are_no_runs_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"is not a run folder: it has no config\.yaml"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text("stages: []\n")
    with pytest.raises(InputError, match="neither a run of `mmdiff-video train-3dgs` nor"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("kind", "opener", "words"),
    [
        (
            "dense",
            Reconstructor.from_run,
            "`eval`, `predict`, `generate`, `lift` and `push` take it",
        ),
        ("joint", Reconstructor.from_run, "for several tasks"),
        ("3dgs", DenseModel.from_pretrained, "`eval` and `render` take it"),
        ("joint", DenseModel.from_pretrained, "the folder of that task in it"),
    ],
)
def test_a_run_of_another_kind_is_refused_with_what_takes_it(folder, kind, opener, words):
    facts = {"kind": kind, "details": {"tasks": ["seg", "depth"]}}
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError) as refused:
        opener(folder)
    assert words in str(refused.value)
    assert str(folder) in str(refused.value)


def test_every_kind_can_be_scored():
    assert SCORERS.keys() == KINDS.keys()
