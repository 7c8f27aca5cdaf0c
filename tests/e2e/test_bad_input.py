"""A user's mistake costs one clear sentence and exit status 2."""

import errno
import shutil
from pathlib import Path

import pytest

from mmdiff_video.cli import main
from mmdiff_video.rooms.make import make_rooms

SMALL = ["data.frames=5", "data.height=32", "data.width=48", "data.span=[7,12]", "train.steps=1"]
SMALL += ["decoder.width=32", "decoder.depth=1", "decoder.heads=4", "input=latent"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "rooms"
    return make_rooms(out, scenes=4, frames=14, width=64, height=48, jobs=1)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture):
    """Run a command that must fail; returns its one sentence."""

    def run(*command: str | Path) -> str:
        capsys.readouterr()
        assert main([str(part) for part in command]) == 2
        errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]

    return run


def train(root: Path, out: Path, *extra: str) -> list[str]:
    command = ["train-3dgs", "--data", "re10k", "--data-root", str(root), "--out", str(out)]
    return [*command, *SMALL, *extra]


def test_missing_data_root(fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "no-such" in fails(*train(tmp_path / "no-such", tmp_path / "run"))
    monkeypatch.delenv("MMDIFF_DATA", raising=False)
    message = fails("train-3dgs", "--data", "re10k", "--out", tmp_path / "run", *SMALL)
    assert "--data-root" in message
    assert "data show re10k" in message


@pytest.mark.parametrize(
    "command",
    [
        ["train-3dgs", "--data", "rooms", "--out", "FILE"],
        ["predict", "run", "a.png", "--out", "FILE/below"],
        ["generate", "--prompt", "a chair", "--out", "FILE"],
        ["data", "check", "rooms", "--out", "FILE"],
        ["data", "show", "rooms", "--sheet", "FILE/sheet.png"],
        ["data", "show", "rooms", "--sheet", "sheet.pdf"],
        ["render", "run", "--out", "FILE/a.mp4"],
        ["render", "run", "--out", "a.txt"],
        ["train-3dgs", "--data", "rooms", "--out", "x" * 300],
        ["render", "run", "--out", "a.mp4", "--ply", "DIR.ply"],
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, command
):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("DIR.ply").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: argument --" in last
    says = ("is a file", "is a folder", "must end in", "File name too long")
    assert any(words in last for words in says)


def test_what_the_system_refuses_is_a_sentence(fails, monkeypatch: pytest.MonkeyPatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mmdiff_video.demo.run_demo", full)
    assert fails("demo") == "error: No space left on device"


def test_a_run_of_the_other_kind_is_named(fails, tmp_path: Path):
    (tmp_path / "config.yaml").write_text("task: depth\n")
    (tmp_path / "dense.json").write_text("{}")
    for command in (["eval-3dgs", tmp_path], ["render", tmp_path, "--out", tmp_path / "a.mp4"]):
        assert "is a run of `mmdiff-video dense`: `eval`, `predict`, `generate`" in fails(*command)


def test_a_root_in_which_no_clip_is_usable(fails, root: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(root, broken)
    for file in (broken / "train").glob("*.txt"):
        rows = file.read_text().splitlines()
        file.write_text("\n".join([rows[0], *(row + " 1.0" for row in rows[1:])]) + "\n")
    message = fails(*train(broken, tmp_path / "run"))
    assert "20" in message  # columns found
    assert "19" in message  # columns wanted


def test_a_single_broken_clip_is_counted_not_fatal(root: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(root, broken)
    victim = sorted((broken / "train").glob("*.txt"))[0]
    victim.write_text(victim.read_text().replace(" ", "  x ", 1))
    assert main(train(broken, tmp_path / "run")) == 0
    assert victim.stem in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("backbone.name=nano-wann", "nano-wan"),
        ("backbone.taps=[block.99]", "block.0"),
        ("trian.steps=2", "train"),
        ("data.name=re11k", "re10k"),
        ("data.height=36", "32 or 48"),
        ("data.frames=16", "13 or 17"),
        ("data.height=320000000", "a smaller size"),
        ("data.frames=0", "frames"),
        ("data.height=0", "height 0"),
        ("data.width=-16", "nearest: 16"),
        ("data.frames=1", "data.frames is 1: it must be 2 or more"),
        ("data.targets=0", "data.targets is 0: it must be 1 or more"),
        ("data.eval_targets=0", "data.eval_targets is 0: it must be 1 or more"),
        ("data.input_targets=-1", "data.input_targets is -1: it must be 0 or more"),
        ("data.samplings_per_clip=0", "data.samplings_per_clip is 0: it must be 1 or more"),
        ("data.span=[12,7]", "data.span needs 2 <= least <= most"),
        ("loss.ssim=-1", "loss.ssim is -1.0: it must be 0 or more"),
        ("loss={mse: 0, perceptual: 0, ssim: 0}", "are all 0"),
        ("cache.budget_gb=0", "cache.budget_gb is 0.0: it must be finite and above 0"),
        ("train.lr=.inf", "train.lr is inf"),
        ("train.seed=-1", "train.seed is -1: a seed must be from 0"),
        ("backbone.seed=99999999999999999999999", "backbone.seed is 99999999999999999999999"),
        ("data.split_seed=-1", "data.split_seed is -1"),
        ("data.max_clips=0", "data.max_clips is 0: it must be 1 or more"),
        ("data.max_eval_clips=-1", "data.max_eval_clips is -1"),
    ],
)
def test_wrong_settings_name_what_is_valid(
    fails, root: Path, tmp_path: Path, override: str, expected: str
):
    assert expected in fails(*train(root, tmp_path / "run", override))
    assert not (tmp_path / "run").exists()


def test_unknown_backbone_config_and_data_set(fails, tmp_path: Path):
    assert "nano-flux" in fails("taps", "fluxx")
    assert "3dgs-nano" in fails("train-3dgs", "--config", "4dgs", "--out", tmp_path / "run")
    assert "re10k" in fails("data", "show", "re20k")


def test_runs_that_do_not_fit(fails, root: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert main(train(root, run)) == 0
    assert "already" in fails(*train(root, run))
    message = fails("render", run, "--trajectory", "zigzag", "--out", tmp_path / "v.mp4")
    assert "orbit" in message
    message = fails("render", run, "--scene", "nowhere", "--out", tmp_path / "v.mp4")
    assert "unknown scene" in message
    assert "train" in fails("eval-3dgs", run, "--split", "validation")
    for number in ("0", "-1"):
        message = fails("eval-3dgs", run, "--max-clips", number)
        assert f"--max-clips is {number}: it must be 1 or more" in message
    message = fails(*train(root, run, "decoder.width=64"), "--resume")
    assert "another architecture" in message
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("width: 32", "width: 64"))
    assert "another architecture" in fails("eval-3dgs", run)


@pytest.mark.parametrize("where", ["LINK", "LINK/below", "LINK/a.mp4"])
def test_a_link_that_leads_nowhere_is_no_place_to_write(tmp_path, capsys, where: str):
    (tmp_path / "LINK").symlink_to(tmp_path / "LINK")
    command = ["render", "run"] if where.endswith(".mp4") else ["predict", "run", "a.png"]
    with pytest.raises(SystemExit):
        main([*command, "--out", str(tmp_path / where)])
    assert "LINK' is a link that leads nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fps", "3000000000"], "fps must be at most 1000"),
        (["--fps", "0"], "fps must be at least 1"),
        (["--frames", "-1"], "frames must be at least 1"),
        (["--scale", "0"], "scale must be at least 1"),
    ],
)
def test_numbers_that_no_video_has_are_refused_before_any_work(fails, tmp_path, flags, message):
    assert message in fails("render", "run", "--out", tmp_path / "v.mp4", *flags)
    assert not list(tmp_path.iterdir())
