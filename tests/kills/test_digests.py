"""What counts as the same end of a command."""

import json
from pathlib import Path

import pytest
import torch
from kills.digests import differences, digest, leftovers
from safetensors.torch import save_file


def test_tensors_count_by_value_and_json_without_times(tmp_path: Path):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        folder = tmp_path / name
        (folder / "tensorboard").mkdir(parents=True)
        (folder / "tensorboard" / "events").write_text(name)
        (folder / ".lock").write_text(name)
        save_file({"x": torch.arange(3)}, folder / "x.safetensors", {"note": name})
        line = {"step": 1, "samples_per_second": seconds, "out": str(folder)}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert not differences(digest(tmp_path / "a"), digest(tmp_path / "b"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "x.json").unlink(), "no x.json"),
        (lambda folder: (folder / "y.png").touch(), "y.png is too many"),
        (
            lambda folder: (folder / "x.json").write_text('{"a": [1, 3]}'),
            "x.json differs: [0].a[1]",
        ),
        (
            lambda folder: save_file({"x": torch.ones(2)}, folder / "x.safetensors"),
            "x.safetensors differs",
        ),
    ],
)
def test_what_differs_is_named(tmp_path: Path, change, says):
    (tmp_path / "x.json").write_text('{"a": [1, 2]}')
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    before = digest(tmp_path)
    change(tmp_path)
    (line,) = differences(digest(tmp_path), before)
    assert line.startswith(says)


def test_unfinished_files_are_found(tmp_path: Path):
    (tmp_path / "checkpoints" / ".partial-step-1").mkdir(parents=True)
    (tmp_path / "cache" / "ab").mkdir(parents=True)
    (tmp_path / "cache" / "ab" / ".partial-1.safetensors").touch()  # others may be writing it
    assert leftovers(tmp_path) == ["checkpoints/.partial-step-1"]
    assert digest(tmp_path) == {}
