import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmdiff_video.datasets.picture_files import write_jpeg, write_label
from mmdiff_video.errors import InputError
from mmdiff_video.files import (
    file_name,
    parse_json,
    read_json,
    read_text,
    remove_folder,
    remove_partials,
    remove_stale_partials,
    write_aside,
    write_folder_aside,
    write_json,
    write_text,
)
from mmdiff_video.pictures import save_png, save_video
from mmdiff_video.tensors import save_tensors

NOISE = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)


def inside(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def into(path: Path) -> None:
        with write_aside(path) as aside:
            write(aside)

    return into


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.txt": lambda path: write_text(path, "x" * 3000),
    "a.json": lambda path: write_json(path, ["x" * 3000]),
    "a.png": lambda path: save_png(Image.fromarray(NOISE), path),
    "label.png": lambda path: write_label(path, NOISE.astype(np.uint16)),
    "a.jpg": lambda path: write_jpeg(path, NOISE),
    "a.mp4": lambda path: save_video([NOISE] * 3, path, fps=5),
    "a.mkv": lambda path: save_video([np.roll(NOISE, i) for i in range(60)], path, fps=5),
    "a.npy": inside(lambda path: np.save(path, NOISE)),
    "a.npz": inside(lambda path: np.savez_compressed(path, NOISE)),
    "a.safetensors": inside(lambda path: save_file({"a": torch.zeros(999)}, path)),
    "b.safetensors": inside(lambda path: save_tensors(path, {"a": torch.zeros(999)})),
    "a.pt": inside(lambda path: torch.save(torch.zeros(999), path)),
}
"""Each needs more than 2000 bytes, and learns of a full disk in another way."""


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


def test_what_may_be_left_unwritten_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.png"
    with write_aside(path, optional=True):
        pass
    assert not path.exists()
    with write_aside(path, optional=True) as aside:
        aside.write_text("new")
    with write_aside(path, optional=True):
        pass
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", [".partial-1a2b-a.npy", ".partial-1a2b-folder"])
@pytest.mark.parametrize(("age", "goes"), [(7200, True), (60, False)])
def test_of_what_others_may_be_writing_only_the_old_goes(
    tmp_path: Path, name: str, age: float, goes: bool
):
    left = tmp_path / name
    files = [left / "deep" / "file"] if "folder" in name else [left]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    files[0].write_text("half")
    then = time.time() - age
    for path in (left.parent, left, *left.rglob("*")):
        os.utime(path, (time.time() - 7200,) * 2)
    os.utime(files[0], (then, then))  # a folder is as young as what was written in it last
    remove_stale_partials(tmp_path)
    assert left.exists() != goes


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


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_of_by_the_file_that_it_kept(tmp_path: Path, tight_disk, name: str):
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(OSError) as caught:  # noqa: PT011
        WRITERS[name](path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: np.save(folder / "a.npy", NOISE),
        lambda folder: (folder / "b").write_bytes(bytes(3000)),
        lambda folder: save_png(Image.fromarray(NOISE), folder / "c.png"),
        lambda folder: torch.save(torch.zeros(999), folder / "d.pt"),
    ],
)
def test_a_full_disk_is_told_of_by_the_folder_that_does_not_appear(
    tmp_path: Path, tight_disk, write: Callable[[Path], object]
):
    with (
        pytest.raises(OSError, match=r"/step") as caught,
        write_folder_aside(tmp_path / "step") as folder,
    ):
        write(folder)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("flush", ["fsync", "replace"])
def test_what_the_disk_refuses_in_the_end_is_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, flush: str
):
    def refuse(*args: object) -> None:
        raise OSError(code, os.strerror(code), *map(str, args))

    monkeypatch.setattr(os, flush, refuse)
    with pytest.raises(OSError, match=r"a\.txt'$") as caught:
        write_text(tmp_path / "a.txt", "x")
    assert caught.value.errno == code


@pytest.mark.parametrize(
    "error",
    [
        InputError("no such clip"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "clip.mp4"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        RuntimeError("a bug"),
    ],
)
def test_what_is_no_fault_of_the_disk_stays_as_it_is(tmp_path: Path, error: Exception):
    with pytest.raises(type(error)) as caught, write_aside(tmp_path / "a.txt"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "é" * 125 + ".txt", "n" * 255])
def test_the_longest_names_that_the_disk_takes_can_be_written(tmp_path: Path, name: str):
    write_text(tmp_path / name, "x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_link_is_replaced_not_followed(tmp_path: Path):
    (tmp_path / "theirs.txt").write_text("theirs")
    (tmp_path / "a.txt").symlink_to("theirs.txt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".partial-x").symlink_to(tmp_path, target_is_directory=True)
    write_text(tmp_path / "a.txt", "ours")
    remove_partials(tmp_path / "run")
    assert (tmp_path / "theirs.txt").read_text() == "theirs"
    assert not (tmp_path / "a.txt").is_symlink()
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("name", [b"stra\xdfe.jpg", b"\xff\xfe", b"a\nb", b'"\\'])
def test_file_names_of_any_bytes_come_back_from_json(tmp_path: Path, name: bytes):
    path = tmp_path / "report.json"
    write_json(path, {os.fsdecode(name): ["é"]})
    path.read_text(encoding="utf-8")
    assert [os.fsencode(key) for key in read_json(path)] == [name]


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
