"""transforms.json of nerfstudio and instant-ngp, read and written."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from recon.cameras import invert_rigid
from recon.io.format_error import FormatError
from recon.io.transforms import Frame, read_transforms, write_transforms
from recon.lenses import Lens
from recon.rotations import matrices_from_quats

LENS = Lens(width=12, height=8, fx=10, fy=11, cx=6.5, cy=3.5)
INTRINSICS = {"fl_x": 10, "fl_y": 11, "cx": 6.5, "cy": 3.5, "w": 12, "h": 8}


def a_pose(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    quat = torch.randn(4, generator=rng, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = matrices_from_quats(quat / quat.norm())
    pose[:3, 3] = torch.randn(3, generator=rng, dtype=torch.float64)
    return pose


def written(folder: Path, content: dict[str, Any], pictures: tuple[str, ...] = ("a.png",)) -> Path:
    for name in pictures:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8)).save(path)
    file = folder / "transforms.json"
    file.write_text(json.dumps(content))
    return file


def a_frame(**more: Any) -> dict[str, Any]:
    return {"file_path": "a.png", "transform_matrix": torch.eye(4).tolist(), **more}


def test_what_we_write_comes_back(tmp_path: Path):
    distorted = Lens(width=12, height=8, fx=10, fy=11, cx=6, cy=4, k1=-0.1, k2=0.01, p1=1e-3, p2=0)
    for name in ("images/a b.png", "images/ü.png", "masks/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (12, 8)).save(tmp_path / name)
    frames = [
        Frame("images/a b.png", LENS, a_pose(0), "masks/a.png"),
        Frame("images/ü.png", distorted, a_pose(1)),
    ]
    write_transforms(tmp_path / "transforms.json", frames)
    found = read_transforms(tmp_path / "transforms.json")
    assert [(f.name, f.lens, f.mask) for f in found.frames] == [
        (f.name, f.lens, f.mask) for f in frames
    ]
    for a, b in zip(found.frames, frames, strict=True):
        torch.testing.assert_close(a.viewmat, b.viewmat, rtol=0, atol=1e-12)
    assert found.missing == []


def test_the_axes_are_opengls(tmp_path: Path):
    # a camera at (0, 0, 5) that looks along -z, as OpenGL's do, sees the origin 5 ahead
    pose = torch.eye(4)
    pose[2, 3] = 5
    file = written(tmp_path, {**INTRINSICS, "frames": [a_frame(transform_matrix=pose.tolist())]})
    (frame,) = read_transforms(file).frames
    origin = frame.viewmat @ torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    above = frame.viewmat @ torch.tensor([0.0, 1, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(origin[:3], torch.tensor([0.0, 0, 5], dtype=torch.float64))
    assert above[1] == -1  # up in the world is up in the picture
    assert frame.lens == LENS


def test_intrinsics_of_a_frame_beat_those_of_the_file(tmp_path: Path):
    content = {**INTRINSICS, "frames": [a_frame(fl_x=20, w=24), a_frame()]}
    frames = read_transforms(written(tmp_path, content)).frames
    assert [(f.lens.fx, f.lens.width) for f in frames] == [(20, 24), (10, 12)]


def test_angles_and_the_size_of_the_picture_make_a_lens(tmp_path: Path):
    content = {"camera_angle_x": math.pi / 2, "frames": [a_frame(file_path="./a")]}
    (frame,) = read_transforms(written(tmp_path, content)).frames
    assert frame.name == "a.png"
    torch.testing.assert_close(frame.lens.fx, 6.0)
    assert (frame.lens.fx, frame.lens.cx, frame.lens.cy) == (frame.lens.fy, 6, 4)


def test_an_applied_transform_is_undone(tmp_path: Path):
    original = a_pose(3)  # camera-to-world, OpenGL axes
    applied = torch.tensor([[0, 1, 0, 2], [1, 0, 0, -1], [0, 0, -1, 0.5]], dtype=torch.float64)
    whole = torch.cat([applied, torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)])
    moved = whole @ original
    moved[:3, 3] *= 0.25
    content = {
        **INTRINSICS,
        "applied_transform": applied.tolist(),
        "applied_scale": 0.25,
        "frames": [a_frame(transform_matrix=moved.tolist())],
    }
    found = read_transforms(written(tmp_path, content))
    axes = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    torch.testing.assert_close(
        found.frames[0].viewmat, invert_rigid(original @ axes), rtol=0, atol=1e-12
    )
    # points of the file go back by the same way
    point = torch.tensor([0.3, 0.2, 0.1, 1], dtype=torch.float64)
    torch.testing.assert_close(
        (found.applied @ point)[:3], (whole @ point)[:3] * 0.25, rtol=0, atol=1e-12
    )


def test_pictures_that_are_not_there_are_counted(tmp_path: Path):
    content = {**INTRINSICS, "frames": [a_frame(), a_frame(file_path="images/gone.jpg")]}
    found = read_transforms(written(tmp_path, content))
    assert [f.name for f in found.frames] == ["a.png"]
    assert found.missing == ["images/gone.jpg"]


MIRROR = torch.diag(torch.tensor([1.0, 1, -1, 1])).tolist()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "no list of frames"),
        ({"frames": []}, "no list of frames"),
        ({"frames": [5]}, "frame 0: it has no file_path"),
        ({"frames": [a_frame(fl_x=3, camera_model="OPENCV_FISHEYE")]}, "OPENCV_FISHEYE are not"),
        ({"frames": [a_frame(fl_x=3, is_fisheye=True)]}, "OPENCV_FISHEYE are not read"),
        ({"frames": [a_frame(fl_x=3, k3=0.1)]}, "with k3 or k4 are not read"),
        ({"frames": [a_frame()]}, "no focal length"),
        ({"frames": [a_frame(fl_x="wide")]}, "fl_x is no usable number: wide"),
        ({"frames": [a_frame(fl_x=1e300)]}, "fl_x is no usable number"),
        ({"frames": [a_frame(fl_x=float("nan"))]}, "fl_x is no usable number"),
        ({"frames": [a_frame(fl_x=-3)]}, "not positive"),
        ({"frames": [a_frame(camera_angle_x=4)]}, r"must be in \(0, pi\)"),
        ({"frames": [a_frame(fl_x=3, transform_matrix=MIRROR)]}, "is mirrored"),
        ({"frames": [a_frame(fl_x=3, transform_matrix=[[1]])]}, "must be 3x4 or 4x4"),
        ({"frames": [a_frame(fl_x=3, transform_matrix="I")]}, "must be 3x4 or 4x4"),
        ({"frames": [a_frame(fl_x=3, file_path="../a.png")]}, "outside the folder"),
        ({"frames": [a_frame(fl_x=3, file_path="/etc/a.png")]}, "outside the folder"),
        ({"frames": [a_frame(fl_x=3)], "applied_transform": MIRROR}, "no rotation with a scale"),
        (
            {
                "frames": [a_frame(fl_x=3)],
                "applied_transform": torch.diag(torch.ones(4)).mul(2).tolist(),
            },
            "last row must be 0 0 0 1",
        ),
        (
            {
                "frames": [a_frame(fl_x=3)],
                "applied_transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0] * 4],
            },
            "last row must be 0 0 0 1",
        ),
        (
            {
                "frames": [
                    a_frame(
                        fl_x=3,
                        transform_matrix=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]],
                    )
                ]
            },
            "last row must be 0 0 0 1",
        ),
        ({"frames": [a_frame(fl_x=3)], "applied_scale": 0}, "no rotation with a scale"),
    ],
)
def test_odd_files_are_one_sentence(tmp_path: Path, content: Any, complaint: str):
    with pytest.raises(FormatError, match=complaint):
        read_transforms(written(tmp_path, content))


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 50_000, b""])
def test_what_is_not_json_is_one_sentence(tmp_path: Path, text: bytes):
    (tmp_path / "transforms.json").write_bytes(text)
    with pytest.raises(FormatError, match="is not readable JSON"):
        read_transforms(tmp_path / "transforms.json")
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read_transforms(tmp_path / "gone.json")
