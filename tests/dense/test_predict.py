"""Predict with a model that takes no time: what happens to inputs, results and the report."""

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmdiff_video.dense import predict
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.predict import PredictReport, predict_paths
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json
from mmdiff_video.locks import sole_writer
from mmdiff_video.pictures import save_video
from mmdiff_video.tasks.depth import Depth, DepthLossConfig

SHADE = 100
"""Grey value of the pictures here."""


class Constant:
    """Stands in for a run: the same depth everywhere."""

    def __init__(self, metres: float, max_depth: float):
        task = Depth(0.1, max_depth, "none", DepthLossConfig())
        backbone = SimpleNamespace(defaults=SimpleNamespace(frames=2))
        self.setup = SimpleNamespace(task=task, notice="", backbone=backbone)
        self.metres = metres

    def predict(self, images: Tensor, captions: list[str | None]) -> Tensor:
        return torch.full((len(images), 1, *images.shape[2:]), self.metres)

    def predict_video(self, frames: Tensor, caption: str | None) -> Tensor:
        return self.predict(frames, [caption])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Constant:
    model = Constant(2.0, max_depth=10.0)
    monkeypatch.setattr(DenseModel, "from_pretrained", lambda folder, backbone: model)
    monkeypatch.chdir(tmp_path)
    return model


def pictures(*names: str | bytes) -> list[Path]:
    made = [Path(os.fsdecode(name)) for name in names]
    for path in made:
        path.parent.mkdir(exist_ok=True, parents=True)
        with path.open("wb") as file:
            Image.new("L", (24, 16), SHADE).save(file, format="PNG")
    return made


def predicted(*paths: Path | str, out: str = "out") -> PredictReport:
    return predict_paths("run", [Path(path) for path in paths], Path(out))


def reasons(out: str = "out") -> dict[str, str]:
    return {
        Path(s["key"]).name: s["reason"] for s in read_json(Path(out, "report.json"))["skipped"]
    }


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("not a TIFF file"),
        RecursionError("too deep"),
        AssertionError("of a library"),
        OSError("no errno"),
        PermissionError(errno.EACCES, "Permission denied", "in/bad.png"),
        MemoryError("a picture of billions"),
        InputError("a picture that the backbone refuses"),
        KeyError("exif"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_wrong_with_one_input_is_its_reason(run, monkeypatch, error: Exception):
    pictures("in/a.png", "in/bad.png", "in/c.png")
    read = predict.read_rgb

    def read_or_raise(path: Path, *, upright: bool) -> np.ndarray:
        if path.name == "bad.png":
            raise error
        return read(path, upright=upright)

    monkeypatch.setattr(predict, "read_rgb", read_or_raise)
    report = predicted("in")
    assert sorted(report.written) == ["in/a.png", "in/c.png"]
    assert str(error.args[-1]) in reasons()["bad.png"]


def test_a_fault_of_every_input_is_one_of_the_program(run, monkeypatch):
    def fail(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(run, "predict", fail)
    pictures("in/a.png", "in/b.png")
    with pytest.raises(RuntimeError, match="a bug"):
        predicted("in")
    assert reasons().keys() == {"a.png", "b.png"}


def test_results_that_cannot_be_written_are_their_inputs_reason(run):
    longest = "n" * 251 + ".png"  # the overlay's name would be longer
    pictures("in/a.png", "in/b.png", f"in/{longest}")
    Path("out/in/a.png").mkdir(parents=True)
    report = predicted("in")
    assert list(report.written) == ["in/b.png"]
    assert reasons().keys() == {"a.png", longest}
    assert sorted(p.name for p in Path("out/in").iterdir() if p.is_file()) == [
        "a_overlay.png",
        "b.png",
        "b_overlay.png",
    ]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_takes_no_more_ends_the_work_with_what_there_is(run, monkeypatch, code: int):
    pictures("in/a.png", "in/b.png", "in/c.png")
    predicted("in/b.png", out="out/in")
    old = Path("out/in/b.png").read_bytes()
    replace = os.replace

    def full(aside: Path, to: Path) -> None:
        if Path(to).name == "b.png":
            raise OSError(code, os.strerror(code), str(aside))
        replace(aside, to)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"out/in/b\.png'$") as caught:
        predicted("in")
    assert caught.value.errno == code
    assert list(read_json(Path("out/report.json"))["written"]) == ["in/a.png"]
    assert Path("out/in/b.png").read_bytes() == old
    assert not list(Path("out").rglob(".partial-*"))


def test_an_interrupt_leaves_the_report_of_what_was_done(run, monkeypatch):
    pictures("in/a.png", "in/b.png")
    whole = predict._picture

    def stop_at_b(model, path: Path, *more: Any) -> Path:
        if path.name == "b.png":
            raise KeyboardInterrupt
        return whole(model, path, *more)

    monkeypatch.setattr(predict, "_picture", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        predicted("in")
    assert list(read_json(Path("out/report.json"))["written"]) == ["in/a.png"]


@pytest.mark.parametrize(
    "name", [b"stra\xdfe", b"\xff\xfe", b"a\nb", b"caf\xc3\xa9", b"a:b", b"x'\""]
)
def test_file_names_of_any_bytes_are_predicted_and_reported(run, name: bytes):
    (picture,) = pictures(b"in/" + name + b".png")
    video = picture.with_suffix(".mp4")
    save_video([np.zeros((16, 24, 3), np.uint8)] * 3, video, fps=5)
    report = predicted("in")
    assert not report.skipped
    written = read_json(Path("out/report.json"))["written"]
    assert [os.fsencode(key) for key in sorted(written)] == sorted(
        map(os.fsencode, (picture, video))
    )
    assert all(Path(result).exists() for result in written.values())
    json.loads(Path("out/report.json").read_text(encoding="utf-8"))


def test_two_inputs_of_one_name_both_have_results(run):
    first, second = pictures("x/a.png", "y/a.png")
    report = predicted(first, second)
    assert len(set(report.written.values())) == 2
    assert all(Path(result).is_file() for result in report.written.values())


def test_a_live_process_keeps_its_folder_to_itself(run):
    pictures("a.png")
    Path("out").mkdir()
    with sole_writer(Path("out"), "predict"), pytest.raises(InputError, match="another process"):
        predicted("a.png")
    assert not list(Path("out").glob("[!.]*"))
    predicted("a.png")


def test_what_a_killed_process_left_is_cleared(run):
    pictures("in/a.png")
    for folder in ("out", "out/in"):
        Path(folder, ".partial-12345678-walk").mkdir(parents=True)
        Path(folder, ".partial-12345678-walk", "000000.png").touch()
        Path(folder, ".partial-12345678-walk_overlay.mp4").touch()
    predicted("in")
    assert not list(Path("out").rglob(".partial-*"))


@pytest.mark.parametrize("link", ["in", "walk"])
def test_links_to_other_folders_among_the_results_are_refused(run, link: str):
    pictures("in/a.png")
    save_video([np.zeros((16, 24, 3), np.uint8)] * 3, Path("walk.mp4"), fps=5)
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out", link).symlink_to("../elsewhere", target_is_directory=True)
    with pytest.raises(InputError, match=f"'out/{link}' is a link"):
        predicted("in", "walk.mp4")
    assert not list(Path("elsewhere").iterdir())


def test_a_link_in_place_of_a_result_is_replaced(run):
    pictures("a.png", "theirs.png")
    before = Path("theirs.png").read_bytes()
    Path("out").mkdir()
    for name in ("a.png", "a_overlay.png", "report.json"):
        Path("out", name).symlink_to("../theirs.png")
    predicted("a.png")
    assert Path("theirs.png").read_bytes() == before
    assert not any(path.is_symlink() for path in Path("out").iterdir())


@pytest.mark.parametrize(
    ("max_depth", "metres", "suffix"),
    [(10.0, 2.0, ".png"), (80.0, 65.5, ".png"), (80.0, 65.6, ".npy"), (80.0, 70.0, ".npy")],
)
def test_depth_is_written_in_a_file_that_holds_it(run, max_depth, metres, suffix):
    Constant.__init__(run, metres, max_depth)
    pictures("a.png")
    save_video([np.zeros((16, 24, 3), np.uint8)] * 3, Path("walk.mp4"), fps=5)
    for _ in range(2):  # the second time over the first results
        predicted("a.png", "walk.mp4")
    report = read_json(Path("out/report.json"))
    assert report["written"]["a.png"] == f"out/a{suffix}"
    assert "millimetres" in report["format"]
    assert "(.npy) in metres" in report["format"]
    frames = sorted(Path("out/walk").iterdir())
    assert [path.name for path in frames] == [f"{i:06d}{suffix}" for i in range(3)]
    for path in (Path(f"out/a{suffix}"), *frames):
        if suffix == ".npy":
            values = np.load(path)
            assert (values.dtype, values.shape) == (np.float32, (16, 24))
            assert (values == np.float32(metres)).all()
        else:
            assert (np.asarray(Image.open(path)) == round(metres * 1000)).all()


def test_a_result_of_another_ending_takes_the_place_of_the_earlier_one(run):
    pictures("a.png", "b.png")
    Path("out").mkdir()
    Path("out/b.npy").write_text("theirs")
    for metres, suffix in ((2.0, ".png"), (70.0, ".npy"), (2.0, ".png")):
        Constant.__init__(run, metres, 80.0)
        predicted("a.png")
        assert [p.name for p in sorted(Path("out").glob("a.*"))] == [f"a{suffix}"]
    predicted("b.png")
    assert Path("out/b.npy").read_text() == "theirs"


@pytest.mark.parametrize("text", ["{", "[]", '{"written": 7}', '{"written": {"a": ["x"]}}', "\xff"])
def test_a_report_of_somebody_else_is_no_hindrance(run, text: str):
    pictures("a.png")
    Path("out").mkdir()
    Path("out/report.json").write_text(text, encoding="latin-1")
    predicted("a.png")
    assert list(read_json(Path("out/report.json"))["written"]) == ["a.png"]


def test_nothing_to_predict_is_a_sentence_with_the_first_reason(run):
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"no picture and no video in 'empty' \(and 1 more"):
        predicted("empty", "missing.png")
    pictures("a.png")
    predicted("a.png", "empty", "missing.png")
    assert reasons().keys() == {"empty", "missing.png"}
