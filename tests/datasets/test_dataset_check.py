import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff_video.datasets.clips import check
from mmdiff_video.datasets.clips.camera_picture import draw_cameras
from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.clips.views import PosedVideoDataset
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


def write_cameras(path: Path, offsets: list[float]) -> None:
    """Overwrite a camera file: cameras that look ahead and stand at offsets to the right."""
    rows = (
        f"{i * 1000} 0.8 1.0 0.5 0.5 0 0 1 0 0 {-x} 0 1 0 0 0 0 1 0" for i, x in enumerate(offsets)
    )
    path.write_text("\n".join(["url", *rows]))


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([0.0] * 24, "the cameras hardly move"),
        ([1e-5 * i for i in range(24)], "the cameras hardly move"),
        ([0.1 * i for i in range(12)], "24 frames in the video but 12 cameras"),
        ([0.1 * i + 1e7 * (i % 3) for i in range(24)], "world units from the first one"),
        ([1e200 * i for i in range(24)], "is beyond 1e[+]08"),
    ],
)
def test_what_no_sampling_can_use_is_reported(rooms_copy, tmp_path, monkeypatch, offsets, reason):
    monkeypatch.setattr(check, "draw_cameras", lambda clips, file: file.touch())
    write_cameras(rooms_copy / "train" / "train00001.txt", offsets)
    report = check_any("rooms", rooms_copy, tmp_path / "out")
    ((key, found),) = report.splits[0].skipped
    assert key == "train00001"
    assert re.search(reason, found)
    loaded, card = load_re10k(rooms_copy, "train"), load_card("rooms")
    samples = PosedVideoDataset(loaded.clips, card, frames=9, targets=3, height=32, width=32)
    (left_out,) = [*loaded.skipped, *samples.skipped]
    assert left_out.key == key
    assert re.search(reason, left_out.reason)


def test_clips_too_short_for_the_card_are_reported(rooms, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "draw_cameras", lambda clips, file: file.touch())
    report = check_any("re10k", rooms, tmp_path / "out")
    assert report.usable == 0
    reasons = {skipped.reason for split in report.splits for skipped in split.skipped}
    assert reasons == {"24 frames are too few: a sample spans 33 or more"}


def test_clips_that_are_left_out_at_times_are_pointed_out(
    rooms_copy, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(check, "draw_cameras", lambda clips, file: file.touch())
    write_cameras(rooms_copy / "train" / "train00001.txt", [0.0] * 22 + [5.0] * 2)
    report = check_any("rooms", rooms_copy, tmp_path / "out")
    assert report.usable == 4
    shares = {clip.key: clip.fit_spans for clip in report.splits[0].clips}
    # of the 28 spans of 18 to 24 frames, 13 end in one of the last two
    assert shares == {"train00000": 1, "train00001": 13 / 28, "train00002": 1}
    assert "train00001: only 46.4% of its spans give a sample" in capsys.readouterr().out


def test_captions_that_end_a_training_are_an_error_after_the_report(
    rooms_copy, tmp_path, monkeypatch
):
    monkeypatch.setattr(check, "draw_cameras", lambda clips, file: file.touch())
    (rooms_copy / "captions.jsonl").write_text('{"key": "a"}\n')
    with pytest.raises(InputError, match=r"captions\.jsonl, line 1"):
        check_any("rooms", rooms_copy, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["usable"] == 4
    assert "captions.jsonl, line 1" in written["captions"]
