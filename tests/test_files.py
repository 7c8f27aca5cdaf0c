import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmdiff_video.errors import InputError
from mmdiff_video.files import (
    file_name,
    parse_json,
    read_json,
    read_text,
    remove_folder,
    remove_partials,
    write_aside,
    write_folder_aside,
    write_json,
    write_text,
)


def test_a_file_is_written_with_its_parents_and_nothing_beside(tmp_path: Path):
    write_text(tmp_path / "a" / "note.txt", "é")
    assert (tmp_path / "a" / "note.txt").read_text(encoding="utf-8") == "é"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["note.txt"]


@pytest.mark.parametrize("flush", [True, False])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, flush: bool):
    path = tmp_path / "picture.png"
    path.write_text("old")

    def fail_half_way() -> None:
        with write_aside(path, flush=flush) as aside:
            assert aside.suffix == ".png"
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("flush", [True, False])
def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path, flush: bool):
    with pytest.raises(FileNotFoundError), write_aside(tmp_path / "video.mp4", flush=flush):
        pass


def test_json_refuses_what_json_cannot_say_and_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "eval.json"
    write_json(path, {"psnr": 20.5, "lpips": None})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"psnr": float("nan")})
    assert json.loads(path.read_text()) == {"psnr": 20.5, "lpips": None}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    def fail_half_way() -> None:
        with write_folder_aside(tmp_path / "step") as folder:
            (folder / "a").write_text("a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    with write_folder_aside(tmp_path / "step") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "step").exists()
    assert (tmp_path / "step" / "a").read_text() == "a"
    remove_folder(tmp_path / "step")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_leaves_is_no_result_and_can_be_cleared(tmp_path: Path):
    program = (
        "import os, signal, sys, pathlib\n"
        "from mmdiff_video.files import write_aside, write_folder_aside\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "with write_aside(root / 'a.json') as a, write_folder_aside(root / 'b') as b:\n"
        "    a.write_text('{'); (b / 'c').write_text('c')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.json").exists()
    assert not (tmp_path / "b").exists()
    assert len(list(tmp_path.iterdir())) == 2
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_not_utf8_is_refused_by_file_and_line(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_bytes("a\nstraße\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"list\.txt', line 2: not UTF-8"):
        read_text(path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\n")
    assert read_text(path) == "a\n"


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "NaN", '{"a": -Infinity}', "1" * 10_000, "", '"\x00"']
)
def test_what_is_not_json_is_a_value_error_and_names_its_file(tmp_path: Path, text: str):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"index\.json' is not readable JSON"):
        read_json(path)


@pytest.mark.parametrize(
    "key",
    ["../../x", "/etc/passwd", "..", ".", "", "a/b", "a\0b", "é" * 300, "x" * 5000, "\udcff",
     "-rf", "a\nb", "con:"],
)  # fmt: skip
def test_any_key_gives_the_name_of_one_file_in_its_folder(tmp_path: Path, key: str):
    name = f"{file_name(key)}.png"
    write_text(tmp_path / "in" / name, "here")
    assert [path.name for path in (tmp_path / "in").iterdir()] == [name]
    assert file_name("clip 1_a-b.c") == "clip 1_a-b.c"
    assert file_name("x" * 300) != file_name("x" * 301)
