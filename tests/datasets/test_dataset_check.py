import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff_video.datasets.clips.camera_picture import draw_cameras
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.errors import InputError
from mmdiff_video.rooms import make_room
from mmdiff_video.rooms.check import check_any


def test_a_good_data_set_gets_a_table_a_report_and_a_picture(rooms, tmp_path, capsys):
    report = check_any("rooms", rooms, tmp_path / "out")
    assert report.usable == 4
    printed = capsys.readouterr().out
    assert "train" in printed
    assert "64x48" in printed
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["usable"] == 4
    train, test = written["splits"]
    assert (len(train["clips"]), len(test["clips"])) == (3, 1)
    clip = test["clips"][0]
    assert (clip["frames"], clip["width"], clip["height"]) == (24, 64, 48)
    assert clip["focal"] == pytest.approx(make_room("test", 0).walk.focal, abs=1e-4)
    assert 0 < clip["baseline"] <= clip["path"]
    with Image.open(tmp_path / "out" / "cameras.png") as picture:
        assert min(picture.size) > 600


def test_every_unusable_clip_is_reported_even_damage_in_the_middle(rooms_copy, tmp_path, capsys):
    damaged = rooms_copy / "videos" / "train00000.mp4"
    content = bytearray(damaged.read_bytes())
    start = content.find(b"mdat") + len(content) // 4
    content[start : start + 4000] = bytes(4000)
    damaged.write_bytes(content)
    cameras = rooms_copy / "train" / "train00001.txt"
    cameras.write_text(cameras.read_text().replace("\n", " 1\n"))
    (rooms_copy / "videos" / "test00000.mp4").unlink()
    report = check_any("rooms", rooms_copy, tmp_path)
    assert report.usable == 1
    reasons = dict(report.splits[0].skipped + report.splits[1].skipped)
    assert set(reasons) == {"train00000", "train00001", "test00000"}
    assert "cannot be decoded" in reasons["train00000"]
    assert "line 1" in reasons["train00001"]
    assert "no video" in reasons["test00000"]
    printed = capsys.readouterr().out
    assert all(f"skipped {key}: {why}" in printed for key, why in reasons.items())


def test_a_clip_in_both_splits_is_pointed_out(rooms_copy, tmp_path, capsys):
    cameras = (rooms_copy / "test" / "test00000.txt").read_text()
    (rooms_copy / "train" / "test00000.txt").write_text(cameras)
    assert check_any("rooms", rooms_copy, tmp_path).shared == ["test00000"]
    assert "in more than one split: test00000" in capsys.readouterr().out


def test_no_usable_clip_gives_a_report_without_a_picture(rooms_copy, tmp_path):
    for video in (rooms_copy / "videos").glob("*.mp4"):
        video.unlink()
    report = check_any("rooms", rooms_copy, tmp_path)
    assert report.usable == 0
    assert report.picture is None
    assert len(json.loads((tmp_path / "report.json").read_text())["splits"][0]["skipped"]) == 3


def test_a_missing_split_is_said_a_missing_root_is_an_error(rooms_copy, tmp_path):
    (rooms_copy / "test").rename(rooms_copy / "val")
    report = check_any("rooms", rooms_copy, tmp_path / "out")
    assert report.usable == 3
    assert "no folder 'test'" in str(report.splits[1].problem)
    with pytest.raises(InputError, match="is not a folder"):
        check_any("rooms", tmp_path / "nowhere", tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_frustums_look_along_the_optical_axis(rooms):
    from mmdiff_video.datasets.clips.camera_picture import _frustum

    clip = load_re10k(rooms, "test").clips[0]
    world_from_cam = torch.linalg.inv(clip.viewmats)
    wire = _frustum(clip, world_from_cam, 5, 0.25)
    apex, middle = wire[0], wire[1:5].mean(0)
    torch.testing.assert_close(apex, clip.centres()[5])
    # The principal point is in the middle, so the wide end is centred on the axis.
    torch.testing.assert_close(middle - apex, 0.25 * clip.viewmats[5, 2, :3])


def test_drawing_a_single_clip_marks_its_first_camera(rooms, tmp_path):
    draw_cameras(load_re10k(rooms, "test").clips, tmp_path / "one.png")
    pixels = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).astype(int)
    red = np.abs(pixels - [0xD6, 0x27, 0x28]).sum(2) < 12
    assert red.sum() > 100
