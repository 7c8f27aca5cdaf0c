"""Files that lie among clips: hidden ones, odd names, links, pipes, folders where files belong."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from mmdiff_video.datasets.captions import write_captions
from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.datasets.names import shown
from mmdiff_video.rooms.check import check_any

APPLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100)
COMPOSED, APART = unicodedata.normalize("NFC", "Küche"), unicodedata.normalize("NFD", "Küche")


def keys(loaded) -> list[str]:
    return [clip.key for clip in loaded.clips]


def renamed(root: Path, cameras: str | bytes, video: str | bytes) -> None:
    """Give the files of the test clip other names."""
    folder, videos = os.fsencode(root / "test"), os.fsencode(root / "videos")
    os.rename(folder + b"/test00000.txt", folder + b"/" + os.fsencode(cameras))
    os.rename(videos + b"/test00000.mp4", videos + b"/" + os.fsencode(video))


def test_hidden_files_are_no_clips_and_change_no_choice(rooms_copy):
    def chosen() -> list[list[str]]:
        return [keys(load_re10k(rooms_copy, "train", max_clips=1, split_seed=s)) for s in range(8)]

    before = chosen()
    for folder in ("train", "test", "videos"):
        for path in list((rooms_copy / folder).iterdir()):
            (path.parent / f"._{path.name}").write_bytes(APPLE)
        (rooms_copy / folder / ".DS_Store").write_bytes(APPLE)
        (rooms_copy / folder / ".txt").write_bytes(APPLE)
        (rooms_copy / folder / ".a.torch").write_bytes(APPLE)
    assert chosen() == before
    loaded = load_re10k(rooms_copy, "train")
    assert (len(loaded.clips), loaded.skipped) == (3, [])


def test_hidden_pictures_are_no_frames(rooms_copy):
    from PIL import Image

    (clip,) = load_re10k(rooms_copy, "test").clips
    folder = rooms_copy / "test" / clip.key
    folder.mkdir()
    for i, frame in enumerate(clip.read(range(clip.num_frames))):
        Image.fromarray(frame).save(folder / f"{i * 100_000}.PNG", "png")
        (folder / f"._{i * 100_000}.png").write_bytes(APPLE)
    (rooms_copy / "videos" / f"{clip.key}.mp4").unlink()
    (again,) = load_re10k(rooms_copy, "test").clips
    assert again.read([3, 23]).shape == (2, 48, 64, 3)
    (folder / "100000.PNG").unlink()
    os.mkfifo(folder / "100000.png")
    ((_, reason),) = load_re10k(rooms_copy, "test").skipped
    assert "1 of 24 pictures are missing" in reason


@pytest.mark.parametrize(
    ("cameras", "video", "key"),
    [
        ("a.TXT", "a.MP4", "a"),
        ("a.Txt", "a.mP4", "a"),
        ("my clip.txt", "my clip.mp4", "my clip"),
        ("台所.txt", "台所.mp4", "台所"),
        ("a.b.c.txt", "a.b.c.mp4", "a.b.c"),
        ("$x_{1$.txt", "$x_{1$.mp4", "$x_{1$"),
        (f"{COMPOSED}.txt", f"{APART}.mp4", COMPOSED),
        (f"{APART}.txt", f"{COMPOSED}.MP4", APART),
    ],
)
def test_names_that_a_person_would_match_are_matched(rooms_copy, tmp_path, cameras, video, key):
    renamed(rooms_copy, cameras, video)
    write_captions(rooms_copy, {COMPOSED: "a kitchen", "a": "a room"})
    (clip,) = load_split(load_card("rooms"), rooms_copy, "test").clips
    assert clip.key == key
    assert clip.read([5]).shape == (1, 48, 64, 3)
    assert clip.caption == {"a": "a room", COMPOSED: "a kitchen", APART: "a kitchen"}.get(key)


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80"])
def test_names_that_are_not_utf8_are_skipped_and_named(rooms_copy, name):
    renamed(rooms_copy, name + b".txt", name + b".mp4")
    ((key, reason),) = load_re10k(rooms_copy, "test").skipped
    assert key == shown(os.fsdecode(name))
    assert reason == "its name is not UTF-8: rename it"


def test_a_check_is_reported_wherever_it_lies_and_whatever_clips_are_called(
    rooms_copy, tmp_path, capsys
):
    renamed(rooms_copy, "$x_{1$.txt", "$x_{1$.mp4")
    (rooms_copy / "train" / "train00000.txt").rename(
        rooms_copy / "train" / os.fsdecode(b"caf\xe9.txt")
    )
    root = rooms_copy.rename(os.fsdecode(os.fsencode(tmp_path) + b"/root-\xe9"))
    report = check_any("rooms", root, tmp_path / os.fsdecode(b"out-\xe9"))
    assert report.usable == 3
    printed = capsys.readouterr().out
    printed.encode()
    assert "skipped caf\\udce9: its name is not UTF-8" in printed


def spoil(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "nowhere":
        path.symlink_to("nowhere")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.touch()


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere", "device", "empty"])
@pytest.mark.parametrize("place", ["train/train00001.txt", "videos/train00001.mp4"])
def test_what_is_no_file_costs_its_clip_alone(rooms_copy, place, kind):
    spoil(rooms_copy / place, kind)
    loaded = load_re10k(rooms_copy, "train")
    assert keys(loaded) == ["train00000", "train00002"]
    ((key, reason),) = loaded.skipped
    assert key == "train00001"
    assert "no video" in reason or "train00001." in reason


def test_what_the_system_refuses_costs_its_clip_alone(rooms_copy, monkeypatch):
    real = Path.is_file

    def refuses(path: Path) -> bool:
        if path.name == "train00001.mp4":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", refuses)
    loaded = load_re10k(rooms_copy, "train")
    assert keys(loaded) == ["train00000", "train00002"]
    ((_, reason),) = loaded.skipped
    assert reason.endswith("train00001.mp4' cannot be read: Permission denied")


def test_a_folder_of_pictures_that_is_a_loop_is_a_reason(rooms_copy):
    (rooms_copy / "videos" / "test00000.mp4").unlink()
    (rooms_copy / "test" / "test00000").symlink_to("test00000")
    ((_, reason),) = load_re10k(rooms_copy, "test").skipped
    assert "no video" in reason


def test_of_two_names_that_differ_in_capitals_the_plain_one_is_read(rooms_copy):
    shutil.copy(rooms_copy / "test" / "test00000.txt", rooms_copy / "test" / "test00000.TXT")
    (rooms_copy / "test" / "test00000.TXT").write_text("no cameras")
    assert keys(load_re10k(rooms_copy, "test")) == ["test00000"]
