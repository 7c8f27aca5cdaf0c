"""dense.json as nobody should write it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.saved import read_facts
from mmdiff_video.errors import InputError

GOOD: dict[str, Any] = {
    "task": "seg",
    "classes": {"names": ["wall", "chair"], "colors": [[0, 0, 0], [255, 0, 9]], "void": 255},
    "step": 3,
    "backbone_fingerprint": None,
}


def changed(**classes: Any) -> dict[str, Any]:
    facts = copy.deepcopy(GOOD)
    facts["classes"].update(classes)
    return facts


def test_good_facts_are_read(tmp_path: Path):
    (tmp_path / "dense.json").write_text(json.dumps(GOOD))
    facts = read_facts(tmp_path)
    assert facts.classes == Classes(("wall", "chair"), ((0, 0, 0), (255, 0, 9)), 255)
    assert (facts.step, facts.backbone_fingerprint) == (3, None)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (changed(void=999), "void label is 999"),
        (changed(void=-1), "void label is -1"),
        (changed(void=None), "void label"),
        (changed(void=2.5), "void label"),
        (changed(void=True), "void label"),
        (changed(void="255"), "void label"),
        (changed(void=10**400), "void label is 1000"),
        (changed(colors=[[300, 0, 0], [0, 0, 0]]), "colour is not"),
        (changed(colors=[[0, 0, -1], [0, 0, 0]]), "colour is not"),
        (changed(colors=[[0, 0], [0, 0]]), "colour is not"),
        (changed(colors=["red", "blue"]), "colour is not"),
        (changed(colors={"a": 1}), "colour is not"),
        (changed(colors=None), "colour is not"),
        (changed(colors=[[1, 1, 1]] * 400), "400 colours for 2 classes"),
        (changed(colors=[]), "0 colours for 2 classes"),
        (changed(names=["a", 3]), "list of texts"),
        (changed(names="wall"), "list of texts"),
        (changed(names=[f"c{i}" for i in range(256)], colors=[[0, 0, 0]] * 256), "256 classes"),
        (changed(names=[], colors=[]), "0 classes"),
        (GOOD | {"classes": []}, "no JSON object"),
        (GOOD | {"classes": {}}, "lacks 'names'"),
        (GOOD | {"step": -1}, "number of steps"),
        (GOOD | {"step": "3"}, "number of steps"),
        (GOOD | {"step": None}, "number of steps"),
        (GOOD | {"backbone_fingerprint": 7}, "fingerprint"),
        ({}, "lacks 'step'"),
        ([], "no JSON object"),
        ("text", "no JSON object"),
        (None, "no JSON object"),
    ],
)
def test_facts_that_cannot_be_are_a_sentence(tmp_path: Path, facts: Any, message: str):
    (tmp_path / "dense.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=rf"dense\.json' is damaged, .*{message}"):
        read_facts(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"", b"[" * 100_000, b'{"step": NaN}', b'{"a": "\xff"}'])
def test_what_is_no_json_is_a_sentence(tmp_path: Path, content: bytes):
    (tmp_path / "dense.json").write_bytes(content)
    with pytest.raises(InputError, match=r"dense\.json'"):
        read_facts(tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_output_that_is_not_finite_is_no_prediction(bad: float):
    output = torch.zeros(1, 3, 4, 4)
    output[0, 1, 2, 3] = bad
    with pytest.raises(InputError, match="not finite"):
        DenseModel._decode(None, output, (8, 8))  # pyright: ignore[reportArgumentType]
