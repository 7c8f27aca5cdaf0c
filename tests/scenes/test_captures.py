"""``make_capture``: what becomes of each kind of source, and of bad ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filmed_walls import LENS, filmed, true_viewmats
from PIL import Image

from mmdiff_video.cli import main
from mmdiff_video.datasets.formats.re10k import write_clip
from mmdiff_video.errors import InputError
from mmdiff_video.pictures import save_video
from mmdiff_video.scenes.capture.make import make_capture
from mmdiff_video.scenes.capture.settings import CaptureSettings
from recon.capture.capture import (
    Capture,
    Photo,
    load_capture,
    save_as_colmap,
    save_as_transforms,
)
from recon.lenses import Lens

SHIFTS = list(range(0, 40, 5))
TAKEN = CaptureSettings(check_poses=False, refine_poses=False)
"""Given poses are taken as they are."""


@pytest.fixture
def no_colmap(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("recon.capture.poses", "mmdiff_video.scenes.capture.given_poses"):
        monkeypatch.setattr(f"{module}.is_installed", lambda: False)


def project(folder: Path, lens: Lens = LENS, count: int = 4) -> Capture:
    """A COLMAP project of small noise pictures, with points."""
    rng = np.random.default_rng(0)
    viewmats = true_viewmats(list(range(0, 10 * count, 10)))
    photos = []
    for i in range(count):
        path = folder / "images" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (lens.height, lens.width, 3), np.uint8)
        Image.fromarray(pixels).save(path, quality=95)
        photos.append(Photo(path.name, path, lens, viewmats[i]))
    capture = Capture(photos, torch.rand(9, 3).double(), torch.zeros(9, 3, dtype=torch.uint8))
    save_as_colmap(capture, folder)
    return capture


SMALL = Lens(width=64, height=48, fx=60, fy=60, cx=32, cy=24)


def assert_same_cameras(a: Capture, b: Capture, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a.viewmats(), b.viewmats(), rtol=0, atol=atol)
    for one, other in zip(a.photos, b.photos, strict=True):
        assert (one.lens.width, one.lens.height) == (other.lens.width, other.lens.height)
        torch.testing.assert_close(one.lens.K(), other.lens.K(), rtol=0, atol=atol)


@pytest.mark.usefixtures("no_colmap")
def test_a_project_becomes_a_folder_that_every_reader_reads(tmp_path: Path):
    given = project(tmp_path / "project", SMALL)
    out = tmp_path / "deep" / "out"
    made = make_capture(tmp_path / "project", out, TAKEN)
    assert sorted(p.name for p in out.iterdir()) == [
        *("cameras.png", "images", "report.json", "sparse", "transforms.json"),
    ]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    assert_same_cameras(made.capture, given)
    assert_same_cameras(load_capture(out / "transforms.json"), given)
    torch.testing.assert_close(made.capture.points, given.points)
    assert (made.report.frames, made.report.registered, made.report.poses) == (4, 4, "given")
    assert not made.reused
    for photo, original in zip(made.capture.photos, given.photos, strict=True):
        pixels = np.array(Image.open(photo.path))
        np.testing.assert_array_equal(pixels, np.array(Image.open(original.path)))


@pytest.mark.usefixtures("no_colmap")
def test_colmaps_text_its_binary_and_transforms_json_make_one_capture(tmp_path: Path):
    given = project(tmp_path / "binary", SMALL)
    for kind in ("text", "transforms"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "images").symlink_to(tmp_path / "binary" / "images")
    save_as_colmap(given, tmp_path / "text", text=True)
    photos = [
        replace(photo, path=tmp_path / "transforms" / "images" / photo.name)
        for photo in given.photos
    ]
    save_as_transforms(replace(given, photos=photos), tmp_path / "transforms")
    made = [
        make_capture(tmp_path / kind, tmp_path / f"out-{kind}", TAKEN).capture
        for kind in ("binary", "text", "transforms")
    ]
    assert_same_cameras(made[0], made[1], 1e-12)
    assert_same_cameras(made[0], made[2], 1e-6)


@pytest.mark.usefixtures("no_colmap")
def test_a_finished_capture_is_found_again_and_no_other(tmp_path: Path):
    project(tmp_path / "project", SMALL)
    source, out = tmp_path / "project", tmp_path / "out"
    first = make_capture(source, out, TAKEN)
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = make_capture(source, out, TAKEN)
    assert again.reused
    assert again.report == first.report
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == stamps
    with pytest.raises(InputError, match="another source or with other settings"):
        make_capture(source, out, replace(TAKEN, longest_side=100))
    (source / "images" / "2.jpg").write_bytes((source / "images" / "1.jpg").read_bytes())
    with pytest.raises(InputError, match="another source or with other settings"):
        make_capture(source, out, TAKEN)


@pytest.mark.usefixtures("no_colmap")
def test_what_else_lies_in_the_way_is_refused(tmp_path: Path):
    project(tmp_path / "project", SMALL)
    for name, content in (("a.txt", "mine"), ("report.json", "{}"), ("report.json", "{")):
        out = tmp_path / f"out-{len(content)}"
        out.mkdir()
        (out / name).write_text(content)
        with pytest.raises(InputError):
            make_capture(tmp_path / "project", out, TAKEN)
        assert [p.read_text() for p in out.iterdir()] == [content]
    (tmp_path / "empty").mkdir()
    assert make_capture(tmp_path / "project", tmp_path / "empty", TAKEN).report.registered == 4


@pytest.mark.usefixtures("no_colmap")
def test_a_capture_that_lost_a_picture_is_not_taken_for_whole(tmp_path: Path):
    project(tmp_path / "project", SMALL)
    make_capture(tmp_path / "project", tmp_path / "out", TAKEN)
    (tmp_path / "out" / "images" / "1.png").unlink()
    with pytest.raises(InputError, match="has lost 1 of its pictures"):
        make_capture(tmp_path / "project", tmp_path / "out", TAKEN)


@pytest.mark.usefixtures("no_colmap")
def test_pictures_are_shrunk_with_their_lenses(tmp_path: Path):
    project(tmp_path / "project", SMALL)
    settings = replace(TAKEN, longest_side=64)
    made = make_capture(tmp_path / "project", tmp_path / "whole", settings)
    assert made.capture.photos[0].lens == SMALL
    large = Lens(width=640, height=480, fx=600, fy=600, cx=320, cy=240)
    project(tmp_path / "large", large)
    made = make_capture(tmp_path / "large", tmp_path / "small", settings)
    assert made.capture.photos[0].lens == SMALL
    assert Image.open(made.capture.photos[0].path).size == (64, 48)


@pytest.mark.usefixtures("no_colmap")
@pytest.mark.parametrize(("k1", "drawn"), [(-1e-5, False), (-0.1, True), (0.1, True)])
def test_a_lens_that_bends_is_straightened_and_leaves_no_blanks(
    tmp_path: Path, k1: float, drawn: bool
):
    lens = replace(SMALL, k1=k1)
    given = project(tmp_path / "project", lens)
    white = Image.new("RGB", (64, 48), "white")
    for photo in given.photos[1:]:
        white.save(photo.path)
    made = make_capture(tmp_path / "project", tmp_path / "out", TAKEN)
    photos = made.capture.photos
    assert all(photo.lens.is_pinhole for photo in photos)
    assert np.array(Image.open(photos[1].path)).min() == 255
    before, after = (np.array(Image.open(p.path)) for p in (given.photos[0], photos[0]))
    assert before.shape == after.shape
    assert (before == after).all() != drawn
    assert photos[0].lens.fx >= 60


@pytest.mark.usefixtures("no_colmap")
def test_masks_come_along(tmp_path: Path):
    project(tmp_path / "project", SMALL)
    (tmp_path / "project" / "masks").mkdir()
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save(tmp_path / "project" / "masks" / "1.jpg.png")
    made = make_capture(tmp_path / "project", tmp_path / "out", TAKEN)
    masks = [photo.mask for photo in made.capture.photos]
    assert [m is None for m in masks] == [True, False, True, True]
    assert masks[1] is not None
    np.testing.assert_array_equal(np.array(Image.open(masks[1])), mask)


@pytest.mark.usefixtures("no_colmap")
def test_broken_pictures_are_left_out_with_their_reasons(tmp_path: Path):
    given = project(tmp_path / "project", SMALL)
    given.photos[0].path.write_bytes(b"no picture")
    given.photos[1].path.unlink()
    Image.new("RGB", (48, 64)).save(given.photos[2].path)
    made = make_capture(tmp_path / "project", tmp_path / "out", TAKEN)
    assert [photo.name for photo in made.capture.photos] == ["3.png"]
    assert (made.report.frames, made.report.registered) == (4, 1)
    assert "is not a picture" in made.report.left_out["0.jpg"]
    assert "no file" in made.report.left_out["1.jpg"]
    assert "48x64, and its camera makes pictures of 64x48" in made.report.left_out["2.jpg"]
    for photo in given.photos:
        photo.path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"none of its pictures can be used \(4 left out"):
        make_capture(tmp_path / "project", tmp_path / "none", TAKEN)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_colmap")
def test_a_picture_is_turned_only_where_its_lens_is_of_the_turned_one(tmp_path: Path):
    given = project(tmp_path / "project", SMALL)
    exif = Image.Exif()
    exif[0x0112] = 6
    for photo, size in zip(given.photos, [(64, 48), (48, 64)] * 2, strict=True):
        Image.new("RGB", size, "red").save(photo.path, exif=exif)
    made = make_capture(tmp_path / "project", tmp_path / "out", TAKEN)
    assert [Image.open(p.path).size for p in made.capture.photos] == [(64, 48)] * 4


@pytest.mark.usefixtures("no_colmap")
@pytest.mark.parametrize("place", ["videos/ID.mp4", "videos/test/ID.mp4", "test/ID.mp4"])
def test_a_clip_of_realestate10k_is_written_as_colmap_and_as_transforms_json(
    tmp_path: Path, place: str
):
    viewmats = true_viewmats([0, 10, 20, 30])
    Ks = SMALL.K().expand(4, 3, 3)
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)
    write_clip(tmp_path, "test", "ID", frames, viewmats.numpy(), Ks.numpy(), "url")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "videos" / "ID.mp4").rename(tmp_path / place)
    out = tmp_path / "out"
    made = make_capture(tmp_path / "test" / "ID.txt", out, replace(TAKEN, frames=3))
    chosen = [int(p.name.removeprefix("frame_").removesuffix(".png")) for p in made.capture.photos]
    assert len(chosen) == 3
    for found in (load_capture(out), load_capture(out / "transforms.json")):
        torch.testing.assert_close(found.viewmats(), viewmats[chosen], rtol=0, atol=1e-6)
        for photo in found.photos:
            torch.testing.assert_close(photo.lens.K(), SMALL.K(), rtol=0, atol=1e-5)
    assert made.report.source.startswith("RealEstate10K clip")


@pytest.mark.usefixtures("no_colmap")
def test_a_clip_whose_frames_are_pictures_is_read(tmp_path: Path):
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    viewmats, Ks = true_viewmats([0, 10, 20]), SMALL.K().expand(3, 3, 3)
    write_clip(tmp_path, "test", "ID", frames, viewmats.numpy(), Ks.numpy(), "url")
    (tmp_path / "videos" / "ID.mp4").unlink()
    (tmp_path / "test" / "ID").mkdir()
    for number in range(3):
        Image.fromarray(frames[number]).save(tmp_path / "test" / "ID" / f"{number * 100_000}.png")
    made = make_capture(tmp_path / "test" / "ID.txt", tmp_path / "out", TAKEN)
    torch.testing.assert_close(made.capture.viewmats(), viewmats, rtol=0, atol=1e-6)


def nothing(folder: Path) -> Path:
    return folder / "nowhere"


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def one_picture(folder: Path) -> Path:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    return folder / "a.png"


def no_video(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"x" * 100)
    return folder / "a.mp4"


def two_frames(folder: Path) -> Path:
    save_video([np.zeros((48, 64, 3), np.uint8)] * 2, folder / "a.mp4", 5)
    return folder / "a.mp4"


def two_photographs(folder: Path) -> Path:
    (folder / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (64, 48)).save(folder / "photos" / f"{name}.jpg")
    return folder / "photos"


def fisheye(folder: Path) -> Path:
    project(folder / "project", SMALL)
    for file in (folder / "project" / "sparse" / "0").glob("cameras.*"):
        file.unlink()
    text = "1 OPENCV_FISHEYE 64 48 60 60 32 24 0 0 0 0\n"
    (folder / "project" / "sparse" / "0" / "cameras.txt").write_text(text)
    return folder / "project"


def gone(folder: Path) -> Path:
    for photo in project(folder / "project", SMALL).photos:
        photo.path.unlink()
    return folder / "project"


def mirrored(folder: Path) -> Path:
    given = project(folder / "project", SMALL)
    save_as_transforms(given, folder / "project")
    file = folder / "project" / "transforms.json"
    content = json.loads(file.read_text())
    for row in content["frames"][2]["transform_matrix"][:3]:
        row[0] = -row[0]
    file.write_text(json.dumps(content))
    return file


def cameras_without_video(folder: Path) -> Path:
    numbers = " ".join(map(str, [1, 1, 0.5, 0.5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]))
    (folder / "ID.txt").write_text(f"url\n0 {numbers}\n33 {numbers}\n")
    return folder / "ID.txt"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (nothing, "there is no '"),
        (empty, "holds no pictures, no COLMAP project"),
        (one_picture, "is one picture, and a scene needs several"),
        (no_video, "a.mp4"),
        (two_frames, "2 pictures are too few to find poses"),
        (two_photographs, "2 pictures are too few to find poses"),
        (fisheye, "the model OPENCV_FISHEYE are not read; undistort"),
        (gone, "no picture of it can be used; 0.jpg: no file"),
        (mirrored, "frame 2: transform_matrix is mirrored"),
        (cameras_without_video, "no video: neither"),
    ],
)
def test_bad_sources_are_one_sentence_and_leave_nothing(
    tmp_path: Path, capsys, source: Callable[[Path], Path], complaint: str
):
    out = tmp_path / "results" / "out"
    assert main(["capture", str(source(tmp_path)), "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert complaint in said[0]
    assert not out.exists()
    assert not out.parent.exists() or not any(out.parent.iterdir())


@pytest.mark.usefixtures("no_colmap")
def test_without_colmap_bare_pictures_say_what_to_install(tmp_path: Path):
    filmed(tmp_path / "photos", SHIFTS[:4])
    with pytest.raises(InputError, match=r"pip install 'mmdiff-video\[capture\]'"):
        make_capture(tmp_path / "photos", tmp_path / "out", CaptureSettings())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"frames": 2}, "frames is 2: it must be 3 or more"),
        ({"longest_side": 10}, "longest_side is 10"),
        ({"camera_model": "RADIALS"}, "unknown camera model 'RADIALS': did you mean 'RADIAL'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict, complaint: str):
    with pytest.raises(InputError, match=complaint):
        CaptureSettings(**wrong)
