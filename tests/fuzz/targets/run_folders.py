"""Run folders: what they say of themselves, their checkpoints, saved models, and going on."""

import importlib.util
import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes, break_json, break_text
from fuzz.targets.tensor_files import break_safetensors

from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.errors import InputError
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.runs import KINDS, open_run

TESTS = Path(__file__).parents[2]
_OLD = TESTS / "fixtures" / "v0_1"

_NEW_FACTS = {
    "kind": "joint",
    "version": "0.2.0",
    "backbone": "nano-wan",
    "backbone_fingerprint": "12ab",
    "untrained_backbone": False,
    "parameters": {"head": 3, "total": 3},
    "samples": 7,
    "skipped": [{"key": "seg:a", "reason": "no label"}],
    "note": "a seeded choice",
    "details": {"tasks": ["seg", "depth"], "task_weights": {"seg": 0.5, "depth": 1.5}},
}


def _break_file(case: Case, path: Path) -> None:
    """Break a file by what its name says that it is."""
    rng = case.rng
    data = path.read_bytes()
    if rng.random() < 0.08:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
        case.note(path.name, "is no file")
        return
    if path.suffix == ".json":
        data = break_json(rng, json.loads(data))
    elif path.suffix == ".yaml":
        data = break_text(rng, data.decode())
    elif path.suffix == ".safetensors":
        data = break_safetensors(rng, data)
    else:
        data = break_bytes(rng, data)
    path.write_bytes(data)
    case.note(path.name, data[:400])


@target(cases=40)
def run_facts(case: Case) -> None:
    """run.json and config.yaml of a run, of this version and the one before."""
    rng = case.rng
    run = rng.choice(("nvs", "depth", "joint"))
    for name in ("run.json", "config.yaml"):
        shutil.copyfile(_OLD / run / name, case.folder / name)
    if rng.random() < 0.5:
        (case.folder / "run.json").write_text(json.dumps(_NEW_FACTS))
    _break_file(case, case.folder / rng.choice(("run.json", "run.json", "config.yaml")))
    schema: type = NVSConfig if run == "nvs" else DenseConfig
    with case.refusable(InputError):
        opened = open_run(case.folder)
        facts = opened.facts
        require(facts.kind in KINDS, f"a kind {facts.kind!r}")
        require(type(facts.samples) is int, f"samples {facts.samples!r}")
        require(facts.samples >= 0, f"{facts.samples} samples")
        for name in ("version", "backbone", "note"):
            require(isinstance(getattr(facts, name), str), f"{name} {getattr(facts, name)!r}")
        require(isinstance(facts.backbone_fingerprint, str | None), "fingerprint")
        for name, number in facts.parameters.items():
            require(type(number) is int, f"parameters of {name}: {number!r}")
        for entry in facts.skipped:
            require(all(isinstance(part, str) for part in entry), f"skipped {entry}")
        if facts.kind == "joint":
            tasks = facts.details["tasks"]
            require(isinstance(tasks, list), f"tasks {tasks!r}")
            require(all(isinstance(task, str) for task in tasks), f"tasks {tasks!r}")
        opened.read_config(schema)


@cache
def _tiny_run() -> Any:
    """The module of the same name among the tests of training, which is not on the path."""
    spec = importlib.util.spec_from_file_location("tiny_run", TESTS / "training" / "tiny_run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_run"] = module
    spec.loader.exec_module(module)
    return module


@cache
def _finished() -> Path:
    """A run of four steps; made once, in a folder that lives as long as the process."""
    import tempfile

    run = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    _tiny_run().tiny_trainer(run, steps=4, checkpoint_every=2, log_every=1).fit()
    return run


@target(cases=30, prepare=_finished)
def resuming(case: Case) -> None:
    """A run whose files are broken goes on as if they were whole, or says which is not."""
    rng = case.rng
    run = case.folder / "run"
    shutil.copytree(_finished(), run)
    truth = _weights(run)
    names = ("model", "ema", "optimizer")
    newest = run / "checkpoints" / "step-000004"
    broken = rng.choice(
        (
            *(newest / f"{name}.safetensors" for name in names),
            *(
                newest / "state.json",
                newest / "state.json",
                run / "metrics.jsonl",
                run / "skipped.json",
            ),
        )
    )
    _break_file(case, broken)
    # what the system refuses by name is a sentence on the command line
    with case.refusable(InputError, OSError, naming=str(run)):
        trainer = _tiny_run().tiny_trainer(
            run, steps=4, checkpoint_every=2, log_every=1, resume=True
        )
        require(trainer.step in (2, 4), f"it goes on from step {trainer.step}")
        if trainer.step == 4:
            for name, tensor in trainer.model.state_dict().items():
                require(torch.equal(tensor, truth[name]), f"other weights in {name}")
        result = trainer.fit()
        require(result.step == 4, f"it ends after step {result.step}")
        for line in (run / "metrics.jsonl").read_text().splitlines():
            require(isinstance(json.loads(line), dict), f"a line of metrics {line}")


def _weights(run: Path) -> dict[str, torch.Tensor]:
    model = _tiny_run().Tiny()
    from mmdiff_video.training.checkpoint import load_model

    load_model(run, model, ema=False)
    return model.state_dict()


@cache
def _backbone() -> Any:
    from mmdiff_video.backbones import load_backbone

    return load_backbone(str(_OLD / "tiny-wan"))


@target(cases=12, prepare=_backbone)
def saved_models(case: Case) -> None:
    """A saved dense model of broken files."""
    rng = case.rng
    folder = case.folder / "depth"
    shutil.copytree(_OLD / "depth", folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("ROOT", str(_OLD)))
    _break_file(case, folder / rng.choice(("dense.json", "model.safetensors", "config.yaml")))
    with case.refusable(InputError):
        model = DenseModel.from_pretrained(folder, backbone=_backbone())
        require(type(model.step) is int, f"step {model.step!r}")
        require(model.step >= 0, f"step {model.step!r}")
        weights = model.setup.model.state_dict()
        require(all(w.isfinite().all() for w in weights.values()), "weights that are not finite")
