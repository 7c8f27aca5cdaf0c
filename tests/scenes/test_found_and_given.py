"""Captures whose poses come from COLMAP, or are held against the pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filmed_walls import LENS, filmed, true_viewmats
from PIL import ExifTags, Image

from mmdiff_video.cli import main
from mmdiff_video.datasets.formats.re10k import open_clip
from mmdiff_video.errors import InputError
from mmdiff_video.scenes.capture.copies import Copy
from mmdiff_video.scenes.capture.found_poses import groups
from mmdiff_video.scenes.capture.make import Made, make_capture
from mmdiff_video.scenes.capture.matching import match_few
from mmdiff_video.scenes.capture.memory import feature_threads
from mmdiff_video.scenes.capture.settings import CaptureSettings
from recon.cameras import invert_rigid
from recon.capture.capture import Capture, Photo, load_capture, save_as_colmap, save_as_transforms
from recon.capture.consistency import check_poses
from recon.lenses import Lens

SHIFTS = list(range(0, 40, 5))
CLIPS = ("808be33bdebc68d6", "cb5a3b2851d39c03", "49f07fa8a5bc9c63")
AXES = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))


@pytest.mark.slow
def test_photographs_are_turned_upright_and_unreadable_ones_reported(tmp_path: Path):
    pytest.importorskip("pycolmap")
    names = filmed(tmp_path / "photos", SHIFTS)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 34
    for name in names:
        path = tmp_path / "photos" / name
        stored = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        stored.save(path.with_suffix(".jpg"), quality=95, exif=exif)
        path.unlink()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"x" * 50)
    made = make_capture(tmp_path / "photos", tmp_path / "out", CaptureSettings())
    assert {Image.open(p.path).size for p in made.capture.photos} == {(320, 240)}
    assert len(made.capture.photos) >= 6
    assert made.report.frames == 9
    assert "broken.jpg" in made.report.left_out
    assert made.report.poses == "found"
    assert len(made.capture.points) > 30
    # every picture of the folder has a camera
    assert len(list((tmp_path / "out" / "images").iterdir())) == len(made.capture.photos)


def a_copy(name: str, width: int = 64, height: int = 48, focal: float | None = None) -> Copy:
    return Copy(name, name, width, height, focal=focal)


def test_photographs_share_a_camera_by_size_and_zoom():
    copies = [a_copy("a"), a_copy("b", 48, 64), a_copy("c"), a_copy("d", focal=70.0)]
    settings = CaptureSettings()
    found = groups(copies, settings, video=False)
    assert [g.names for g in found] == [["a", "c"], ["b"], ["d"]]
    assert found[0].camera_params == []
    assert found[2].camera_model == "SIMPLE_RADIAL"
    assert found[2].camera_params == [70.0, 32.0, 24.0, 0.0]
    one = groups(copies, replace(settings, one_camera=True), video=False)
    assert [g.names for g in one] == [["a", "c", "d"], ["b"]]
    each = groups(copies, replace(settings, one_camera=False), video=False)
    assert len(each) == 4
    (video,) = groups(copies[:1], settings, video=True)
    assert video.camera_model == "SIMPLE_PINHOLE"
    (asked,) = groups(copies[:1], replace(settings, camera_model="OPENCV"), video=True)
    assert asked.camera_model == "OPENCV"


def test_what_takes_more_than_the_memory_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("mmdiff_video.scenes.capture.memory.machine_memory", lambda: 2 * 2**30)
    assert feature_threads([a_copy("a", 8000, 6000)]) >= 1
    monkeypatch.setattr("mmdiff_video.scenes.capture.memory.machine_memory", lambda: 900 * 2**20)
    assert feature_threads([a_copy("a", 640, 480)]) >= 1
    with pytest.raises(InputError, match=r"takes 0\.9 GiB of memory.* lower --longest-side"):
        feature_threads([a_copy("a"), a_copy("b", 8000, 6000)])


def clip_project(real_data: Path, folder: Path, viewmats: torch.Tensor | None = None) -> Capture:
    """Ten frames of a real clip with its recorded poses, as a COLMAP project."""
    clip = open_clip(real_data / "re10k" / "test" / f"{CLIPS[0]}.txt")
    numbers = list(range(0, 50, 5))
    pictures = clip.read(numbers)
    fx, fy, cx, cy = (clip.intrinsics[0] * torch.tensor([320.0, 240, 320, 240])).tolist()
    lens = Lens(width=320, height=240, fx=fx, fy=fy, cx=cx, cy=cy)
    viewmats = clip.viewmats if viewmats is None else viewmats
    photos = []
    for number, picture in zip(numbers, pictures, strict=True):
        path = folder / "images" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        photos.append(Photo(path.name, path, lens, viewmats[number]))
    capture = Capture(photos, torch.zeros(0, 3).double(), torch.zeros(0, 3, dtype=torch.uint8))
    save_as_colmap(capture, folder)
    return capture


@pytest.fixture
def no_colmap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdiff_video.scenes.capture.given_poses.is_installed", lambda: False)


WRONG = {
    "camera-to-world, where world-to-camera": invert_rigid,
    "with the axes of OpenGL (y up, z backwards)": lambda v: AXES @ v,
    "camera-to-world with the axes of OpenGL": lambda v: invert_rigid(AXES @ v),
    "pixels apart in the median": lambda v: v.flip(0).roll(11, 0),
}


@pytest.mark.usefixtures("no_colmap")
@pytest.mark.parametrize("words", WRONG)
def test_wrong_poses_are_refused_by_name(real_data: Path, tmp_path: Path, capsys, words: str):
    clip = open_clip(real_data / "re10k" / "test" / f"{CLIPS[0]}.txt")
    clip_project(real_data, tmp_path / "project", WRONG[words](clip.viewmats))
    command = ["capture", str(tmp_path / "project"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "--no-check-poses" in said
    assert not (tmp_path / "out").exists()
    assert main([*command, "--no-check-poses"]) == 0


@pytest.mark.usefixtures("no_colmap")
def test_a_transforms_json_of_opencv_cameras_is_recognised(real_data: Path, tmp_path: Path):
    given = clip_project(real_data, tmp_path)
    save_as_transforms(given, tmp_path)
    file = tmp_path / "transforms.json"
    content = json.loads(file.read_text())
    for frame, viewmat in zip(content["frames"], given.viewmats(), strict=True):
        frame["transform_matrix"] = invert_rigid(viewmat).tolist()
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"axes of OpenCV \(y down, z forward\), where OpenGL's"):
        make_capture(file, tmp_path / "out", CaptureSettings())
    for frame, viewmat in zip(content["frames"], given.viewmats(), strict=True):
        frame["transform_matrix"] = viewmat.tolist()
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="world-to-camera, where camera-to-world with the axes"):
        make_capture(file, tmp_path / "out", CaptureSettings())


@pytest.mark.usefixtures("no_colmap")
def test_right_poses_pass_without_colmap_too(real_data: Path, tmp_path: Path):
    given = clip_project(real_data, tmp_path / "project")
    made = make_capture(tmp_path / "project", tmp_path / "out", CaptureSettings())
    assert made.report.chosen.startswith("kept as given, what pictures share lies 0.")
    torch.testing.assert_close(made.capture.viewmats(), given.viewmats(), rtol=0, atol=1e-9)


def test_sift_of_kornia_finds_the_walk_past_the_walls(tmp_path: Path):
    names = filmed(tmp_path / "images", SHIFTS)
    matches = match_few([tmp_path / "images" / name for name in names], [LENS] * len(names))
    verdict = check_poses(true_viewmats(SHIFTS), matches, 300)
    assert verdict.distance is not None
    assert verdict.distance < 0.5
    assert verdict.agrees
    assert match_few([tmp_path / "images" / names[0]], [LENS]) == []


def test_pictures_without_anything_give_no_matches(tmp_path: Path):
    for i in range(3):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{i}.png")
    lens = Lens(width=64, height=48, fx=60, fy=60, cx=32, cy=24)
    found = match_few(sorted(tmp_path.iterdir()), [lens] * 3)
    assert check_poses(true_viewmats([0, 5, 10]), found, 60).distance is None


def captured(source: Path, out: Path, **settings) -> Made:
    pytest.importorskip("pycolmap")
    return make_capture(source, out, CaptureSettings(**settings))


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_real_clips_are_registered_almost_whole(real_data: Path, tmp_path: Path, clip: str):
    made = captured(real_data / "re10k" / "videos" / f"{clip}.mp4", tmp_path / "out")
    assert made.report.registered >= 48
    assert made.report.reprojection_error is not None
    assert made.report.reprojection_error < 0.7
    assert made.report.attempts[0]["name"] == made.report.chosen
    frame = np.array(Image.open(made.capture.photos[0].path))
    assert frame.shape == (240, 320, 3)


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_recorded_poses_of_real_clips_are_refined(real_data: Path, tmp_path: Path, clip: str):
    source = real_data / "re10k" / "test" / f"{clip}.txt"
    made = captured(source, tmp_path / "out")
    before, after = (attempt["epipolar_distance"] for attempt in made.report.attempts)
    assert after < 0.6 * before
    assert made.report.registered == 50
    assert made.report.poses == "given"
    kept = captured(source, tmp_path / "kept", refine_poses=False)
    recorded = open_clip(source).viewmats
    torch.testing.assert_close(kept.capture.viewmats(), recorded, rtol=0, atol=1e-9)
    # the world keeps its place and scale
    centres, targets = (invert_rigid(v)[:, :3, 3] for v in (made.capture.viewmats(), recorded))
    path = (targets[1:] - targets[:-1]).norm(dim=1).sum()
    assert (centres - targets).norm(dim=1).mean() < 0.1 * path
    assert len(load_capture(tmp_path / "out").points) > 500


def test_data_check_takes_a_capture(real_data: Path, tmp_path: Path, capsys):
    given = clip_project(real_data, tmp_path / "project")
    given.photos[3].path.unlink()
    command = ["data", "check", str(tmp_path / "project"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "9 of 10 pictures usable" in said
    assert "the pictures agree with the poses (" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["usable"] == 9
    assert list(report["left_out"]) == ["15.png"]
    assert (tmp_path / "out" / "cameras.png").is_file()
    wrong = [replace(p, viewmat=invert_rigid(p.viewmat)) for p in given.photos]
    save_as_colmap(replace(given, photos=wrong), tmp_path / "project")
    assert main(command) == 2
    assert "camera-to-world, where world-to-camera is expected" in capsys.readouterr().out


def test_data_check_of_bare_pictures_names_the_verb_that_finds_cameras(tmp_path: Path, capsys):
    filmed(tmp_path / "photos", [0, 5])
    assert main(["data", "check", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 2
    assert "no cameras to check: `mmdiff-video capture`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
