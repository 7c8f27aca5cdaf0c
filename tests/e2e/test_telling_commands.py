"""The commands that tell something: taps, data, doctor, help."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmdiff_video.cli import _parser, main


def test_taps_needs_no_weights(capsys: pytest.CaptureFixture):
    assert main(["taps", "wan", "--frames", "49", "--height", "352", "--width", "640"]) == 0
    printed = capsys.readouterr().out
    assert "block.0" in printed
    assert "1536" in printed
    assert main(["taps", "flux"]) == 0
    printed = capsys.readouterr().out
    assert "double.18" in printed
    assert "single.37" in printed


def test_data_list_show_and_check(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["data", "list"]) == 0
    assert "RealEstate10K" in capsys.readouterr().out
    assert main(["data", "show", "re10k"]) == 0
    assert "videos/<key>.mp4" in capsys.readouterr().out
    root = str(tmp_path / "rooms")
    small = ["--scenes", "2", "--frames", "18", "--size", "32", "--jobs", "1"]
    assert main(["data", "make", "rooms", "--out", root, *small]) == 0
    assert main(["data", "check", "rooms", "--data-root", root, "--out", str(tmp_path)]) == 0
    assert list(tmp_path.glob("*.png"))
    assert list(tmp_path.glob("*.json"))


def test_doctor_tells_every_part(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    roomy = shutil.disk_usage(".")._replace(free=2**40)  # whatever the disk under the tests has
    monkeypatch.setattr(shutil, "disk_usage", lambda path: roomy)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for part in ("torch", "CUDA", "gsplat", "rasterizer", "video", "ffmpeg", "LPIPS", "disk"):
        assert part in printed
    assert "BROKEN" not in printed


def test_help_starts_fast_and_teaches():
    out = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mmdiff_video", "train-3dgs", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "examples:" in out.stdout
    assert " torch" not in out.stderr  # nothing heavy is imported for a help text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train-3dgs", "rooms needs none: it is made on the spot"),
        ("compare-3dgs", "rooms needs none: it is made on the spot"),
        ("taps", "a multiple of 16"),
        ("generate", "with Wan 1 + a multiple of 4"),
        ("predict", "OUT/FOLDER/NAME.png"),
        ("predict", "OUT/report.json lists what was written, and what was skipped"),
    ],
)
def test_help_says_what_a_first_user_asks(capsys, command: str, words: str):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert words in " ".join(capsys.readouterr().out.split())


def test_every_argument_of_every_command_says_what_it_is():
    def commands(parser: argparse.ArgumentParser):
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from commands(below)

    found = list(commands(_parser()))
    assert len(found) > 15
    silent = [
        f"{parser.prog} {action.dest}"
        for parser in found
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []
