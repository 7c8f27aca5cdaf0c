"""Where commands write: held, cleared, and never outside."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdiff_video.errors import InputError
from mmdiff_video.files import file_name, write_text
from mmdiff_video.locks import sole_writer
from mmdiff_video.outputs import results_file, results_folder


def left_by_a_kill(path: Path) -> Path:
    """What a process leaves that dies while it writes ``path``."""
    kept: list[Path] = []

    def die(aside: Path, to: Path) -> None:
        kept.append(aside.with_suffix(".kept"))
        aside.rename(kept[0])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "half")
    return kept[0].rename(kept[0].with_suffix(path.suffix))


def test_a_folder_is_cleared_of_what_a_kill_left(tmp_path: Path):
    out = tmp_path / "out"
    left = [left_by_a_kill(out / "a.png"), left_by_a_kill(out / "in" / "b.png")]
    (out / ".partial-video").mkdir()
    (out / ".partial-video" / "000000.png").touch()
    (out / "mine.txt").touch()
    with results_folder(out, "predict", "in", "new"):
        assert not any(path.exists() for path in left)
    assert sorted(p.name for p in out.glob("[!.]*")) == ["in", "mine.txt"]
    assert not list(out.glob(".partial-*"))


@pytest.mark.parametrize("name", ["orbit.mp4", "n" * 240, "é.ply", "b.mp4"])
def test_a_file_is_cleared_of_its_own_leftovers_alone(tmp_path: Path, name: str):
    left = left_by_a_kill(tmp_path / name)
    other = left_by_a_kill(tmp_path / "another.mp4")
    assert left.name.startswith(".partial-")
    with results_file(tmp_path / name, "render"):
        assert not left.exists()
        assert other.exists()


def test_where_another_process_writes_nothing_is_touched(tmp_path: Path):
    left = left_by_a_kill(tmp_path / "a.png")
    with (
        sole_writer(tmp_path, "predict"),
        pytest.raises(InputError, match="in use by another process"),
        results_folder(tmp_path, "predict"),
    ):
        pass
    assert left.exists()


@pytest.mark.parametrize("target", ["elsewhere", "nowhere", "."])
def test_a_folder_of_results_that_is_a_link_is_refused(tmp_path: Path, target: str):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".partial-theirs").touch()
    out = tmp_path / "out"
    out.mkdir()
    for name in ("in", "eval"):
        (out / name).symlink_to(tmp_path / target, target_is_directory=True)
    with pytest.raises(InputError, match="is a link"), results_folder(out, "predict", "in"):
        pass
    assert (tmp_path / "elsewhere" / ".partial-theirs").exists()
    os.symlink(out, tmp_path / "link")
    with results_folder(tmp_path / "link", "predict"):
        pass  # to be asked to write behind a link is another thing


@pytest.mark.parametrize("key", ["test00000", "a b", "straße", "a.b", "x-1", "チェア"])
def test_plain_keys_are_their_own_file_names(key: str):
    assert file_name(key) == key


ODD = [
    "..",
    ".",
    "",
    "../../x",
    "a/b",
    "a_b",
    "a\\b",
    "a\nb",
    "C:x",
    "\udcdf",
    "é" * 200,
    ".a",
    "\0",
]


def test_odd_keys_stay_in_their_folder_and_apart(tmp_path: Path):
    for key in ODD:
        write_text(tmp_path / f"{file_name(key)}.png", key)
    assert len([p for p in tmp_path.iterdir() if p.suffix == ".png"]) == len(ODD)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@given(st.text(), st.text())
def test_two_keys_never_share_a_file(one: str, other: str):
    assert (file_name(one) == file_name(other)) == (one == other)
    assert len(file_name(one).encode()) < 200
