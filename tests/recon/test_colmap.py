"""COLMAP models: text, binary and ours are one thing; odd files are one sentence."""

import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.io.colmap import find_model, read_model, write_model
from recon.io.colmap_model import NO_POINT, ColmapCamera, ColmapImage, Model, Points
from recon.io.format_error import FormatError
from recon.lenses import Lens


def a_model(seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    cameras = {
        1: ColmapCamera("SIMPLE_PINHOLE", 320, 240, (250.5, 160.0, 120.0)),
        2: ColmapCamera("PINHOLE", 320, 240, (250.5, 251.0, 160.25, 119.0)),
        4: ColmapCamera("SIMPLE_RADIAL", 64, 48, (60.0, 32.0, 24.0, -0.01)),
        5: ColmapCamera("RADIAL", 64, 48, (60.0, 32.0, 24.0, -0.01, 0.002)),
        9: ColmapCamera("OPENCV", 64, 48, (60, 61, 32, 24, -0.01, 0.002, 1e-4, -2e-4)),
    }
    images = {}
    for key, camera in zip((1, 2, 3, 7, 8), cameras, strict=True):
        points = rng.integers(1, 9, 3)
        points[0] = NO_POINT
        images[key] = ColmapImage(
            f"left eye/Küche {key}.jpg",
            camera,
            rng.normal(size=4),
            rng.normal(size=3),
            rng.uniform(0, 48, (3, 2)),
            points,
        )
    images[8] = replace(images[8], keypoints=np.zeros((0, 2)), points=np.zeros(0, np.int64))
    points = Points(
        np.arange(1, 9),
        rng.normal(size=(8, 3)),
        rng.integers(0, 256, (8, 3), np.uint8),
        rng.uniform(size=8),
        [rng.integers(0, 3, (n % 3, 2)) for n in range(8)],
    )
    return Model(cameras, images, points)


def assert_same(a: Model, b: Model) -> None:
    assert a.cameras == b.cameras
    assert a.images.keys() == b.images.keys()
    for key, image in a.images.items():
        for name, value in vars(image).items():
            np.testing.assert_array_equal(getattr(b.images[key], name), value, err_msg=name)
    for name in ("ids", "xyz", "rgb", "errors"):
        np.testing.assert_array_equal(getattr(a.points, name), getattr(b.points, name), name)
    for mine, other in zip(a.points.tracks, b.points.tracks, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("text", [True, False])
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, text: bool):
    model = a_model()
    write_model(tmp_path / "sparse" / "0", model, text=text)
    assert_same(read_model(tmp_path / "sparse" / "0"), model)
    assert find_model(tmp_path) == tmp_path / "sparse" / "0"
    assert find_model(tmp_path / "sparse" / "0") == tmp_path / "sparse" / "0"


@pytest.mark.parametrize("text", [True, False])
def test_a_model_without_points_or_images_comes_back(tmp_path: Path, text: bool):
    write_model(tmp_path, Model({}, {}, Points.none()), text=text)
    assert_same(read_model(tmp_path), Model({}, {}, Points.none()))


def test_of_several_models_the_one_with_most_images_is_taken(tmp_path: Path):
    small = a_model()
    write_model(tmp_path / "sparse" / "0", replace(small, images={1: small.images[1]}))
    write_model(tmp_path / "sparse" / "1", small)
    assert find_model(tmp_path) == tmp_path / "sparse" / "1"
    assert find_model(tmp_path / "elsewhere") is None


def test_the_poses_are_world_to_camera():
    image = ColmapImage("a", 1, np.array([2**0.5, 2**0.5, 0, 0]), np.array([1.0, 2, 3]))
    expected = [[1, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    torch.testing.assert_close(image.viewmat(), torch.tensor(expected, dtype=torch.float64))


def test_every_camera_model_is_a_lens_and_back():
    for camera in a_model().cameras.values():
        lens = camera.lens
        assert (lens.width, lens.height) == (camera.width, camera.height)
        assert ColmapCamera.of(lens).lens == lens


@pytest.mark.parametrize(
    ("number", "name"), [(5, "OPENCV_FISHEYE"), (7, "FOV"), (10, "THIN_PRISM_FISHEYE")]
)
def test_other_camera_models_are_refused_by_name(tmp_path: Path, number: int, name: str):
    write_model(tmp_path, Model({}, {}, Points.none()))
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QIiQQ12d", 1, 1, number, 9, 9, *[0] * 12))
    with pytest.raises(FormatError, match=f"the model {name} are not read; undistort"):
        read_model(tmp_path)
    (tmp_path / "cameras.bin").unlink()
    (tmp_path / "cameras.txt").write_text(f"1 {name} 9 9 1 2 3 4\n")
    with pytest.raises(FormatError, match=f"the model {name} are not read; undistort"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("cameras", "1 PINHOLE 9 9 1 2 3", "has 4 parameters, not 3"),
        ("cameras", "1 PINHOLE 9 9 nan 2 3 4", "NaN or infinite"),
        ("cameras", "1 PINHOLE 9 9 -5 2 3 4", "not positive"),
        ("cameras", "1 PINHOLE 0 9 5 2 3 4", "0x9 pixels"),
        ("cameras", "PINHOLE", "line 1 is not understood"),
        ("images", "1 1 0 0 0 0 0 0 5 a.jpg\n", "its camera 5 is not among the cameras"),
        ("images", "1 0 0 0 0 0 0 0 1 a.jpg\n", "its pose is no rotation"),
        ("images", "1 1 0 0 0 inf 0 0 1 a.jpg\n", "its pose is no rotation"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n1 2", "line 2 is not understood"),
        ("images", "1 1 0 0 0 0 0 1 a.jpg", "line 1 is not understood"),
        ("points3D", "1 0 0 0 300 0 0 1", "line 1 is not understood"),
        ("points3D", "1 0 0 nan 30 0 0 1", "NaN or infinite"),
        ("points3D", "1 0 0 0 30 0 0 1 5", "line 1 is not understood"),
    ],
)
def test_odd_lines_are_one_sentence(tmp_path: Path, file: str, line: str, complaint: str):
    write_model(tmp_path, Model({}, {}, Points.none()), text=True)
    if file != "cameras":
        (tmp_path / "cameras.txt").write_text("1 PINHOLE 9 9 5 5 4 4\n")
    (tmp_path / f"{file}.txt").write_text(line)
    with pytest.raises(FormatError, match=complaint):
        read_model(tmp_path)


def test_binary_files_cut_off_or_changed_are_one_sentence_or_a_model(tmp_path: Path):
    write_model(tmp_path, a_model())
    rng = np.random.default_rng(0)
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(200):
            changed = bytearray(whole[: rng.integers(len(whole) + 1)])
            if rng.uniform() < 0.7:
                changed = bytearray(whole)
                changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            (tmp_path / name).write_bytes(changed)
            with suppress(FormatError):
                read_model(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_a_missing_file_is_named(tmp_path: Path):
    write_model(tmp_path, a_model())
    (tmp_path / "points3D.bin").unlink()
    with pytest.raises(FormatError, match=r"it has no points3D\.bin or \.txt"):
        read_model(tmp_path)


def test_our_lenses_write_the_simplest_model():
    lens = Lens(width=9, height=8, fx=5, fy=6, cx=4, cy=3)
    assert ColmapCamera.of(lens).model == "PINHOLE"
    assert ColmapCamera.of(replace(lens, p1=1e-3)).model == "OPENCV"
