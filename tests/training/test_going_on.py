"""What a kill or a full disk leaves: a run that goes on equals one that was never stopped."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from mmdiff_video.errors import InputError
from mmdiff_video.training import checkpoints, precision
from mmdiff_video.training.checkpoint import load_state


class Sheet:
    """A preview that draws its step and by chance, and dies where it is told to."""

    def __init__(self, dies_at: int = 0, *, picture: bool = True):
        self.dies_at, self.picture = dies_at, picture

    def __call__(self, model: nn.Module, step: int, path: Path) -> dict[str, float]:
        drawn = int(torch.randint(256, ()))
        if self.picture:
            Image.new("L", (step, 4), drawn).save(path)
        if step == self.dies_at:
            raise KeyboardInterrupt
        return {"val_loss": float(model.trunk.weight.abs().mean()) + drawn}


def pictures(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((run / "previews").iterdir())}


@pytest.mark.parametrize("picture", [True, False], ids=["picture", "metrics alone"])
@pytest.mark.parametrize(("preview_every", "dies_at"), [(4, 4), (4, 8), (4, 12), (6, 12), (12, 12)])
def test_a_preview_that_a_kill_prevented_is_made_up_for(
    tiny, metrics, tmp_path: Path, preview_every: int, dies_at: int, picture: bool
):
    settings = {"dropout": 0.3, "preview_every": preview_every}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    tiny.tiny_trainer(whole, preview=Sheet(picture=picture), **settings).fit()
    with pytest.raises(KeyboardInterrupt):
        tiny.tiny_trainer(killed, preview=Sheet(dies_at, picture=picture), **settings).fit()
    assert checkpoints(killed)[-1].name == f"step-{dies_at:06d}", "the checkpoint comes first"
    (killed / "previews" / ".partial-0000-step-000004.png").write_bytes(b"half")
    for _ in range(2):  # the second time nothing is left to do
        preview = Sheet(picture=picture)
        assert tiny.tiny_trainer(killed, preview=preview, resume=True, **settings).fit().finished
        assert metrics(killed) == metrics(whole)
        assert pictures(killed) == pictures(whole)


def test_a_line_of_metrics_that_was_cut_off_is_written_once_more(tiny, metrics, tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    tiny.tiny_trainer(whole, preview=Sheet(), preview_every=4).fit()
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints" / "step-000012")
    lines = (killed / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    at_8 = next(i for i, line in enumerate(lines) if json.loads(line)["step"] == 8)
    (killed / "metrics.jsonl").write_bytes(b"".join(lines[:at_8]) + lines[at_8][:-7])
    (killed / "previews" / "step-000008.png").unlink()
    tiny.tiny_trainer(killed, preview=Sheet(), preview_every=4, resume=True).fit()
    assert metrics(killed) == metrics(whole)
    assert pictures(killed) == pictures(whole)


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"3\n", b"{}\n", b'{"step": "1"}\n', b"{\n"])
def test_damaged_lines_of_metrics_are_left_out_and_counted(tiny, metrics, tmp_path, capsys, line):
    tiny.tiny_trainer(tmp_path).fit()
    before = metrics(tmp_path)
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(line + file.read_bytes())
    tiny.tiny_trainer(tmp_path, steps=13, resume=True).fit()
    assert metrics(tmp_path)[:-1] == before
    assert "metrics.jsonl: lines that are damaged are left out from now on (1)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("steps", [1, 11])
def test_fewer_steps_than_are_done_are_refused(tiny, metrics, tmp_path: Path, steps: int):
    tiny.tiny_trainer(tmp_path).fit()
    before = metrics(tmp_path)
    with pytest.raises(InputError, match=rf"12 steps are done already, and train.steps is {steps}"):
        tiny.tiny_trainer(tmp_path, steps=steps, resume=True)
    assert metrics(tmp_path) == before
    assert tiny.tiny_trainer(tmp_path, resume=True).fit().finished


@pytest.mark.parametrize("lacking", ["usable", "skipped", "window"])
def test_a_state_without_what_going_on_needs_is_damage(tiny, tmp_path: Path, lacking: str):
    tiny.tiny_trainer(tmp_path).fit()
    checkpoint = checkpoints(tmp_path)[-1]
    as_old_as_0_1(checkpoint, lambda state: state.pop(lacking))
    with pytest.raises(InputError, match=f"damaged .*{lacking}"):
        tiny.tiny_trainer(tmp_path, resume=True)


def as_old_as_0_1(checkpoint: Path, change) -> None:
    """Take off the checksums, as if version 0.1.0 had written it, and change the state."""
    from safetensors.torch import load_file, save_file

    for file in checkpoint.glob("*.safetensors"):
        save_file(load_file(file), file)
    state = load_state(checkpoint)
    change(state)
    (checkpoint / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize(("first", "then"), [(9.0, 0.0), (0.0, 9.0)])
def test_a_run_keeps_to_the_precision_that_it_chose(
    tiny, tmp_path: Path, monkeypatch, caplog, first: float, then: float
):
    chosen, other = ("bf16", "fp32") if first else ("fp32", "bf16")
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda: first)
    tiny.tiny_trainer(tmp_path, precision="auto").fit()
    assert load_state(checkpoints(tmp_path)[-1])["precision"] == chosen
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda: then)  # on another machine
    caplog.set_level(logging.INFO)
    trainer = tiny.tiny_trainer(tmp_path, precision="auto", resume=True)
    assert trainer.precision == chosen
    assert f"began in {chosen} and goes on in {chosen}, though {other} is faster" in caplog.text
    trainer = tiny.tiny_trainer(tmp_path, precision=other, resume=True)
    assert trainer.precision == other
    assert f"goes on in {other}, as train.precision says" in caplog.text


def test_a_run_that_did_not_record_its_precision_chooses_anew(tiny, tmp_path, monkeypatch):
    tiny.tiny_trainer(tmp_path).fit()
    as_old_as_0_1(checkpoints(tmp_path)[-1], lambda state: state.pop("precision"))
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda: 9.0)
    assert tiny.tiny_trainer(tmp_path, precision="auto", resume=True).precision == "bf16"


@pytest.mark.parametrize(
    ("refused", "named"),
    [
        ("metrics", "metrics.jsonl"),
        ("board", "events.out.tfevents"),
        ("preview", "previews/step-000008.png"),
        ("checkpoint", "checkpoints/step-000008"),
    ],
)
def test_a_full_disk_is_said_with_the_file_and_the_run_goes_on_from_before(
    tiny, metrics, tmp_path: Path, monkeypatch, refused: str, named: str
):
    settings = {"dropout": 0.3, "log_every": 1, "preview_every": 4}
    run, whole = tmp_path / "run", tmp_path / "whole"
    full = {"now": False}

    def loss(model, batch):
        full["now"] |= model.calls >= 7  # in step 8
        return tiny.loss_fn(model, batch)

    def unless_full(write, *, half: bool = False):
        def instead(*arguments):
            if not full["now"]:
                return write(*arguments)
            if half:
                write(*arguments[:-1], arguments[-1][:9])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return instead

    class File:
        """A file on a disk that fills up; a part of the last line may be there."""

        def __init__(self, file):
            self.write = unless_full(file.write, half=True)
            self.flush, self.close, self.fileno = file.flush, file.close, file.fileno
            self.name = file.name

    trainer = tiny.tiny_trainer(run, loss=loss, preview=Sheet(), **settings)
    if refused == "preview":
        monkeypatch.setattr(Image.Image, "save", unless_full(Image.Image.save))
    if refused == "checkpoint":
        save_tensors = unless_full(tiny.save_tensors)
        monkeypatch.setattr("mmdiff_video.training.checkpoint.save_tensors", save_tensors)
    with monkeypatch.context() as patch:
        if refused in ("metrics", "board"):
            from mmdiff_video.training import loop

            class Filling(loop.Tracker):
                def __init__(self, *arguments):
                    super().__init__(*arguments)
                    if refused == "metrics":
                        self.file = File(self.file)
                    else:
                        self.board.records._writer = File(self.board.file)

            patch.setattr(loop, "Tracker", Filling)
        with pytest.raises(OSError, match="No space left") as caught:
            trainer.fit()
    assert named in str(caught.value.filename)
    full["now"] = False
    monkeypatch.undo()
    last = checkpoints(run)[-1].name
    assert last == ("step-000008" if refused == "preview" else "step-000004")
    assert not list(run.rglob(".partial-*"))

    tiny.tiny_trainer(run, preview=Sheet(), resume=True, **settings).fit()
    tiny.tiny_trainer(whole, preview=Sheet(), **settings).fit()
    assert metrics(run) == metrics(whole)
    assert pictures(run) == pictures(whole)
    for file in checkpoints(whole)[-1].iterdir():
        assert file.read_bytes() == (checkpoints(run)[-1] / file.name).read_bytes(), file.name
