import errno
import json
import logging
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff_video.cli import main
from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.roots import find_root
from mmdiff_video.errors import InputError
from mmdiff_video.locks import sole_writer
from mmdiff_video.rooms import CLASSES, draw_room, make, make_room, on_the_spot
from mmdiff_video.rooms.check import check_any
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.rooms.sheet import draw_sheet
from mmdiff_video.tasks import TASKS

TINY = {"scenes": 3, "width": 64, "height": 48, "jobs": 1}


@pytest.fixture(scope="module")
def clip_root(tmp_path_factory):
    return make_rooms(tmp_path_factory.mktemp("rooms") / "re10k", frames=20, **TINY)


def files_of(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_clips_read_back_as_drawn(clip_root):
    card = load_card("rooms")
    train, test = (load_split(card, clip_root, split).clips for split in ("train", "test"))
    assert [c.key for c in train] == ["train00000", "train00001"]
    assert [c.key for c in test] == ["test00000"]
    drawn = draw_room(make_room("train", 1), 20, 48, 64)
    clip = train[1]
    np.testing.assert_allclose(clip.viewmats.numpy(), drawn.viewmats, atol=1e-8)
    sizes = torch.tensor([64, 48, 64, 48])
    K = drawn.Ks[0]
    expected = torch.tensor([K[0, 0], K[1, 1], K[0, 2], K[1, 2]])
    torch.testing.assert_close(
        (clip.intrinsics[0] * sizes).double(), expected, rtol=1e-6, atol=1e-6
    )
    error = np.mean((clip.read([7])[0].astype(float) - drawn.rgb[7]) ** 2)
    assert 10 * np.log10(255**2 / error) > 24
    assert clip.caption == make_room("train", 1).caption


def test_the_check_finds_nothing_amiss(clip_root, tmp_path):
    report = check_any("rooms", clip_root, tmp_path)
    assert report.usable
    assert report.shared == []


def test_labels_in_voc_layout(tmp_path):
    root = make_rooms(tmp_path / "voc", layout="voc", **TINY)
    lists = root / "ImageSets" / "Segmentation"
    assert (lists / "train.txt").read_text().split() == ["train00000", "train00001"]
    assert (lists / "val.txt").read_text().split() == ["val00000"]
    label = Image.open(root / "SegmentationClass" / "val00000.png")
    drawn = draw_room(make_room("val", 0), 1, 48, 64)
    assert label.mode == "P"
    np.testing.assert_array_equal(np.asarray(label), drawn.labels[0])
    first = int(drawn.labels[0, 0, 0])
    assert label.convert("RGB").getpixel((0, 0)) == CLASSES[first].color
    picture = np.asarray(Image.open(root / "JPEGImages" / "val00000.jpg")).astype(float)
    assert np.abs(picture - drawn.rgb[0]).mean() < 10
    assert (root / "classes.txt").read_text().splitlines()[8].startswith("8 chair ")


def test_depth_in_nyu_layout(tmp_path):
    root = make_rooms(tmp_path / "nyu", layout="nyu", frames=2, **TINY)
    pairs = [line.split() for line in (root / "test.txt").read_text().splitlines()]
    assert [pair[0] for pair in pairs] == ["image/test00000.jpg", "image/test00000_001.jpg"]
    drawn = draw_room(make_room("test", 0), 2, 48, 64)
    for i, (image, depth) in enumerate(pairs):
        assert Image.open(root / image).size == (64, 48)
        values = np.asarray(Image.open(root / depth))
        assert values.dtype == np.uint16
        np.testing.assert_allclose(values / 1000, drawn.depth[i], atol=6e-4)


def test_saliency_in_duts_layout(tmp_path):
    root = make_rooms(tmp_path / "duts", layout="duts", **TINY)
    names = {
        part: sorted(p.stem for p in (root / part / f"{part}-Mask").iterdir())
        for part in ("DUTS-TR", "DUTS-TE")
    }
    assert names == {"DUTS-TR": ["train00000", "train00001"], "DUTS-TE": ["test00000"]}
    mask = np.asarray(Image.open(root / "DUTS-TE" / "DUTS-TE-Mask" / "test00000.png"))
    drawn = draw_room(make_room("test", 0), 1, 48, 64)
    np.testing.assert_array_equal(mask, drawn.saliency[0] * 255)
    assert Image.open(root / "DUTS-TE" / "DUTS-TE-Image" / "test00000.jpg").size == (64, 48)


def test_every_layout_has_captions(tmp_path):
    root = make_rooms(tmp_path / "voc", layout="voc", frames=2, **TINY)
    lines = [json.loads(line) for line in (root / "captions.jsonl").read_text().splitlines()]
    captions = {line["key"]: line["caption"] for line in lines}
    assert len(captions) == 6
    assert captions["val00000"] == captions["val00000_001"] == make_room("val", 0).caption


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = make_rooms(tmp_path / "whole", frames=2, **TINY)
    out = tmp_path / "killed"
    draw = make.draw_room
    drawn = []

    def stop_at_second(room, *sizes):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(room.index)
        return draw(room, *sizes)

    monkeypatch.setattr(make, "draw_room", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        make_rooms(out, frames=2, **TINY)
    assert not json.loads((out / "rooms.json").read_text())["complete"]
    left = out / "videos" / ".partial-train00001-0000.mp4"
    left.write_bytes(b"half a file")

    def count(room, *sizes):
        drawn.append(room.index)
        return draw(room, *sizes)

    monkeypatch.setattr(make, "draw_room", count)
    make_rooms(out, frames=2, **TINY)
    assert len(drawn) == 3  # the first room was not drawn again
    assert files_of(out) == files_of(whole)
    for file in files_of(whole):
        if not file.endswith(".mp4"):  # an encoder's bytes may differ from call to call
            assert (out / file).read_bytes() == (whole / file).read_bytes(), file
    make_rooms(out, frames=2, **TINY)
    assert len(drawn) == 3


@pytest.mark.parametrize(
    "left", [".partial-1a2b3c4d-rooms.json", ".partial-rooms-1a2b3c4d.json", ".lock"]
)
def test_a_folder_with_nothing_but_what_a_kill_left_is_filled(tmp_path, left):
    out = tmp_path / "rooms"
    out.mkdir()
    (out / left).write_bytes(b"{")
    make_rooms(out, layout="duts", **TINY)
    assert json.loads((out / "rooms.json").read_text())["complete"]
    assert not list(out.rglob(".partial-*"))


def test_two_that_draw_into_one_folder_are_one_too_many(tmp_path):
    out = tmp_path / "rooms"
    out.mkdir()
    with ThreadPoolExecutor() as threads:
        with sole_writer(out, "drawing rooms"):
            with pytest.raises(InputError, match=r"in use by another process \(drawing rooms\)"):
                make_rooms(out, layout="duts", **TINY)
            waiting = threads.submit(make_rooms, out, layout="duts", **TINY, wait=True)
            time.sleep(0.3)
            assert not waiting.done()
            assert not (out / "rooms.json").exists()
        assert waiting.result() == out
    assert json.loads((out / "rooms.json").read_text())["complete"]


def test_a_complete_folder_may_lie_where_nothing_can_be_written(tmp_path, monkeypatch):
    root = make_rooms(tmp_path / "rooms", layout="duts", **TINY)
    monkeypatch.setattr(make, "sole_writer", None)
    assert make_rooms(root, layout="duts", **TINY) == root


@pytest.mark.parametrize("text", ["{", "[]", "3", "{}", '{"complete": true}'])
def test_a_damaged_manifest_holds_no_rooms(tmp_path, text):
    (tmp_path / "rooms.json").write_text(text)
    with pytest.raises(InputError, match="holds"):
        make_rooms(tmp_path, **TINY)
    assert (tmp_path / "rooms.json").read_text() == text


def test_a_full_disk_names_the_file_and_drawing_goes_on(tmp_path, monkeypatch):
    out = tmp_path / "rooms"
    save = Image.Image.save

    def full(picture, file, *more, **settings):
        if "train00001" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(picture, file, *more, **settings)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left") as caught:
        make_rooms(out, layout="duts", **TINY)
    assert "train00001" in caught.value.filename
    assert ".partial-" not in caught.value.filename
    monkeypatch.setattr(Image.Image, "save", save)
    make_rooms(out, layout="duts", **TINY)
    assert files_of(out) == files_of(make_rooms(tmp_path / "whole", layout="duts", **TINY))


def as_version_0_1_left_it(root):
    """Make a folder what it would be if the program had not known of normals."""
    for split in ("train", "test"):
        shutil.rmtree(root / split / "normals")
    manifest = json.loads((root / "rooms.json").read_text())
    del manifest["labels"]
    (root / "rooms.json").write_text(json.dumps(manifest))


def test_a_folder_of_before_a_task_gets_its_labels_and_keeps_the_rest(tmp_path, caplog):
    settings = {**TINY, "layout": "folders", "frames": 2}
    whole = make_rooms(tmp_path / "whole", **settings)
    old = make_rooms(tmp_path / "old", **settings)
    as_version_0_1_left_it(old)
    (old / "captions.jsonl").write_text('{"key": "train00000", "caption": "My own words."}\n')
    with caplog.at_level(logging.INFO):
        make_rooms(old, **settings)
    assert "has no labels for normals yet: adding them" in caplog.text
    assert files_of(old) == files_of(whole)
    for file in files_of(whole):
        same = (old / file).read_bytes() == (whole / file).read_bytes()
        assert same == (file != "captions.jsonl"), file
    caplog.clear()
    make_rooms(old, **settings)
    assert "adding" not in caplog.text


@pytest.mark.parametrize("layout", ["re10k", "duts"])
def test_a_folder_whose_labels_are_all_there_is_left_alone(tmp_path, layout, monkeypatch):
    settings = {**TINY, "layout": layout, "frames": 2}
    root = make_rooms(tmp_path / "rooms", **settings)
    manifest = json.loads((root / "rooms.json").read_text())
    del manifest["labels"]  # as version 0.1.0 wrote it
    (root / "rooms.json").write_text(json.dumps(manifest))
    before = {file: (root / file).read_bytes() for file in files_of(root)}
    monkeypatch.setattr(make, "draw_room", None)  # drawing would fail
    make_rooms(root, **settings)
    assert {file: (root / file).read_bytes() for file in files_of(root)} == before


def test_an_own_folder_has_every_tasks_labels_and_names_them(tmp_path):
    root = make_rooms(tmp_path / "rooms", layout="folders", **TINY)
    assert json.loads((root / "rooms.json").read_text())["labels"] == list(TASKS)
    for task in TASKS.values():
        assert (root / "test" / task.labels.folder / "test00000.png").is_file()


def test_all_cores_draw_the_same(tmp_path, clip_root):
    twin = make_rooms(tmp_path / "twin", frames=20, **{**TINY, "jobs": 2})
    assert files_of(twin) == files_of(clip_root)
    for file in files_of(twin):
        assert (twin / file).read_bytes() == (clip_root / file).read_bytes(), file


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scenes": 1}, "^scenes is 1: it must be 2 or more$"),
        ({"seed": -1}, "^seed is -1: a seed must be from 0 to"),
        ({"seed": 10**23}, "^seed is 100000000000000000000000: "),
        ({"frames": 1}, "needs at least 2 frames, not 1"),
        ({"frames": 0, "layout": "voc"}, "needs at least 1 frames, not 0"),
        ({"width": 33}, "even width and height, not 33x48"),
        ({"height": 8}, "at least 16x16, not 64x8"),
        ({"jobs": 0}, "jobs is 0: it must be 1 or more"),
        ({"layout": "nyuu"}, "did you mean 'nyu'"),
    ],
)
def test_impossible_requests_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        make_rooms(tmp_path / "rooms", **{**TINY, **settings})
    assert list(tmp_path.iterdir()) == []


def test_other_settings_and_strange_folders_are_refused(tmp_path, clip_root):
    with pytest.raises(InputError, match=re.escape("(frames 20 instead of 7)")):
        make_rooms(clip_root, frames=7, **TINY)
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match="holds no rooms"):
        make_rooms(tmp_path, **TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]


def test_rooms_are_made_on_the_spot_once(monkeypatch, tmp_path):
    monkeypatch.setenv("MMDIFF_CACHE", str(tmp_path))
    for settings in (on_the_spot._CLIPS, on_the_spot._STILLS):
        for name, value in {"scenes": 2, "width": 32, "height": 16}.items():
            monkeypatch.setitem(settings, name, value)
    stills = f"room-stills-{'-'.join(TASKS)}"
    for card, folder in ((load_card("rooms"), "rooms"), (load_image_card("rooms"), stills)):
        root = find_or_make_root(card, None)
        assert root == tmp_path / folder
        manifest = root / "rooms.json"
        before = manifest.stat().st_mtime_ns
        assert find_or_make_root(card, None) == root
        assert manifest.stat().st_mtime_ns == before


def test_rooms_made_on_the_spot_go_on_after_a_kill(monkeypatch, tmp_path):
    monkeypatch.setenv("MMDIFF_CACHE", str(tmp_path))
    for name, value in {"scenes": 3, "frames": 2, "width": 32, "height": 16, "jobs": 1}.items():
        monkeypatch.setitem(on_the_spot._CLIPS, name, value)
    old = tmp_path / ".partial-rooms-1a2b3c4d"  # of version 0.1.0
    (old / "train").mkdir(parents=True)
    for path in (old / "train", old):
        os.utime(path, (time.time() - 7200,) * 2)
    draw = make.draw_room
    drawn = []

    def stop_at_second(room, *sizes):
        drawn.append(room.index)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(room, *sizes)

    monkeypatch.setattr(make, "draw_room", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        find_or_make_root(load_card("rooms"), None)
    root = find_or_make_root(load_card("rooms"), None)
    assert drawn == [0, 1, 1, 0]  # of train, and of test
    assert json.loads((root / "rooms.json").read_text())["complete"]
    assert not list(tmp_path.rglob(".partial-*"))


def test_looking_for_a_data_set_makes_none(monkeypatch, tmp_path):
    monkeypatch.setenv("MMDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMDIFF_DATA", raising=False)
    for card in (load_card("rooms"), load_image_card("rooms")):
        with pytest.raises(InputError, match="needs a data root"):
            find_root(card, None)
    monkeypatch.setenv("MMDIFF_DATA", str(tmp_path))
    assert find_root(load_image_card("duts"), None) == tmp_path / "duts"
    assert not (tmp_path / "cache").exists()


def test_a_sheet_shows_four_pictures_a_room(tmp_path):
    draw_sheet(tmp_path / "sheet.png", scenes=2, size=48)
    assert Image.open(tmp_path / "sheet.png").width > 4 * 48
    with pytest.raises(InputError, match="no picture file"):
        draw_sheet(tmp_path / "sheet.txt", scenes=2)
    with pytest.raises(InputError, match="at least 1 scene"):
        draw_sheet(tmp_path / "sheet.png", scenes=0)


def test_the_commands_of_a_user(tmp_path, capsys):
    out = tmp_path / "rooms"
    command = ["data", "make", "rooms", "--out", str(out), "--scenes", "2", "--layout", "duts"]
    assert main([*command, "--size", "32x24", "--jobs", "1"]) == 0
    assert (out / "captions.jsonl").is_file()
    assert capsys.readouterr().out == f"2 rooms in layout duts are in {out}\n"
    assert main([*command, "--size", "32", "--jobs", "1"]) == 2
    assert "height 24 instead of 32" in capsys.readouterr().err
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", "rooms", "--sheet", str(sheet), "--scenes", "1"]) == 0
    assert sheet.is_file()
    assert main(["data", "show", "re10k", "--sheet", str(sheet)]) == 2
