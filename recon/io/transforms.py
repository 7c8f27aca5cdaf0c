"""``transforms.json`` of nerfstudio and instant-ngp: pictures with their cameras.

There poses are camera-to-world with OpenGL axes (x right, y up, z back); here they become
world-to-camera with OpenCV axes. Intrinsics may be of the file or of each frame, as focal lengths
(``fl_x``) or as angles (``camera_angle_x``). An ``applied_transform`` (nerfstudio turns the world
upright) is undone, so that cameras and points are in the world that they were made in.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from recon.cameras import compose, invert_rigid
from recon.io.format_error import FormatError
from recon.lenses import Lens

_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")
"""Tried in turn: the synthetic scenes of NeRF name their pictures without one."""

_READ_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")

_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
"""OpenCV axes to OpenGL's, and back."""

_ROTATION_ERROR = 1e-2
"""How far a written rotation may be from one: beyond it the file means something else."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with its camera.

    Attributes:
        name: path of the picture below the folder of the file, as it is there.
        lens: of the camera.
        viewmat: [4, 4] float64, world-to-camera, OpenCV axes.
        mask: path of the mask below the folder; None: there is none.
    """

    name: str
    lens: Lens
    viewmat: Tensor
    mask: str | None = None


@dataclass(frozen=True, eq=False)
class Transforms:
    """What a ``transforms.json`` says.

    Attributes:
        frames: in the order of the file.
        missing: pictures that it names and that are not there.
        points: path of a point cloud below the folder; None: there is none.
        applied: [4, 4] float64: from the world of ``frames`` to that of the file and of
            ``points``.
    """

    frames: list[Frame]
    missing: list[str]
    points: str | None
    applied: Tensor


def read_transforms(file: Path, *, pictures: bool = True) -> Transforms:
    """Read a ``transforms.json``.

    Args:
        file: to read.
        pictures: whether the pictures must be there. Else a frame is kept without its picture, as
            in the file of a path of cameras; the file then says the sizes, w and h.

    Raises:
        FormatError: no such file, not JSON, no frames, a camera model that is not read, intrinsics
            or poses that make no camera, or a path out of the folder.
    """
    content = _read_json(file)
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise FormatError(f"'{file}' has no list of frames: it is no transforms.json")
    applied = _applied(content, file)
    undo = torch.linalg.inv(applied)
    scale = torch.linalg.det(applied[:3, :3]) ** (1 / 3)
    found: list[Frame] = []
    missing: list[str] = []
    for number, entry in enumerate(frames):
        where = f"'{file}', frame {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise FormatError(f"{where}: it has no file_path")
        name = _find(file.parent, entry["file_path"], where)
        if name is None:
            if pictures:
                missing.append(entry["file_path"])
                continue
            name = entry["file_path"]
        pose = _rigid(entry.get("transform_matrix"), where)
        pose = compose(undo, pose)
        pose[:3, :3] *= scale  # the inverse shrank the axes, too
        mask = entry.get("mask_path")
        found.append(
            Frame(
                name,
                _lens({**content, **entry}, file.parent / name, where),
                invert_rigid(compose(pose, _OPENGL)),
                _find(file.parent, mask, where) if isinstance(mask, str) else None,
            )
        )
    points = content.get("ply_file_path")
    return Transforms(
        found,
        missing,
        _find(file.parent, points, f"'{file}'") if isinstance(points, str) else None,
        applied,
    )


def write_transforms(file: Path, frames: Sequence[Frame], *, points: str | None = None) -> None:
    """Write frames as a ``transforms.json``; every frame with its own intrinsics.

    Args:
        file: replaced.
        frames: paths relative to the folder of ``file``.
        points: path of a PLY of points, if there is one.
    """
    entries = []
    for frame in frames:
        lens = frame.lens
        entry: dict[str, Any] = {
            "file_path": frame.name,
            "camera_model": "PINHOLE" if lens.is_pinhole else "OPENCV",
            "w": lens.width,
            "h": lens.height,
            "fl_x": lens.fx,
            "fl_y": lens.fy,
            "cx": lens.cx,
            "cy": lens.cy,
        }
        if not lens.is_pinhole:
            entry |= dict(zip(("k1", "k2", "p1", "p2"), lens.distortion, strict=True))
        if frame.mask is not None:
            entry["mask_path"] = frame.mask
        pose = compose(invert_rigid(frame.viewmat.double()), _OPENGL)
        entry["transform_matrix"] = pose.tolist()
        entries.append(entry)
    content: dict[str, Any] = {"frames": entries}
    if points is not None:
        content["ply_file_path"] = points
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"'{file}' is not readable JSON: {error}") from None
    except OSError as error:
        raise FormatError(f"'{file}' cannot be read: {error.strerror}") from None
    return content if isinstance(content, dict) else {}


def _find(root: Path, name: str, where: str) -> str | None:
    """The path as it is on disk, below ``root``; None where there is no such file."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise FormatError(f"{where}: '{name}' lies outside the folder of the file: move it there")
    try:
        return next((f"{path}{end}" for end in _ENDINGS if (root / f"{path}{end}").is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None


def _lens(values: Mapping[str, Any], picture: Path, where: str) -> Lens:
    model = str(values.get("camera_model") or "OPENCV").upper()
    if values.get("is_fisheye"):
        model = "OPENCV_FISHEYE"
    if model not in _READ_MODELS or any(_number(values, k, where) for k in ("k3", "k4")):
        raise FormatError(
            f"{where}: cameras of the model {model}"
            + (" with k3 or k4" if model in _READ_MODELS else "")
            + " are not read; undistort the pictures first"
        )
    width, height = (_number(values, key, where) for key in ("w", "h"))
    if not width or not height:
        width, height = _size(picture, where)
    fx = _focal(values, "x", width, where)
    fy = _focal(values, "y", height, where)
    if fx is None and fy is None:
        raise FormatError(f"{where}: it has no focal length (fl_x or camera_angle_x)")
    cx, cy = _number(values, "cx", where), _number(values, "cy", where)
    try:
        return Lens(
            width=int(width),
            height=int(height),
            fx=fy if fx is None else fx,  # pyright: ignore[reportArgumentType]
            fy=fx if fy is None else fy,  # pyright: ignore[reportArgumentType]
            cx=width / 2 if cx is None else cx,
            cy=height / 2 if cy is None else cy,
            **{key: _number(values, key, where) or 0.0 for key in ("k1", "k2", "p1", "p2")},
        )
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from None


def _focal(values: Mapping[str, Any], axis: str, size: float, where: str) -> float | None:
    focal = _number(values, f"fl_{axis}", where)
    angle = _number(values, f"camera_angle_{axis}", where)
    if focal is not None or angle is None:
        return focal
    if not 0 < angle < math.pi:
        raise FormatError(f"{where}: camera_angle_{axis} is {angle}: it must be in (0, pi) radians")
    return size / 2 / math.tan(angle / 2)


def _number(values: Mapping[str, Any], key: str, where: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise FormatError(f"{where}: {key} is no usable number: {str(value)[:40]}")
    return float(value)


def _size(picture: Path, where: str) -> tuple[float, float]:
    try:
        with Image.open(picture) as image:
            return image.size
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise FormatError(f"{where}: '{picture}' is no readable picture: {error}") from None


def _matrix(value: Any, where: str) -> Tensor:
    """[3, 4] or [4, 4] numbers as a [4, 4]."""
    try:
        matrix = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        matrix = torch.zeros(0)
    if matrix.shape not in ((3, 4), (4, 4)) or not (matrix.abs() < 1e12).all():
        raise FormatError(f"{where} must be 3x4 or 4x4 finite numbers")
    whole = torch.eye(4, dtype=torch.float64)
    if len(matrix) == 4 and not torch.equal(matrix[3], whole[3]):
        raise FormatError(f"{where}: the last row must be 0 0 0 1")
    whole[: len(matrix)] = matrix
    return whole


def _rigid(value: Any, where: str) -> Tensor:
    pose = _matrix(value, f"{where}: transform_matrix")
    R = pose[:3, :3]
    U, _, Vh = torch.linalg.svd(R)
    if (U @ Vh - R).abs().max() > _ROTATION_ERROR:
        raise FormatError(f"{where}: transform_matrix is no rotation with a translation")
    if torch.linalg.det(R) < 0:
        raise FormatError(
            f"{where}: transform_matrix is mirrored (its determinant is -1), and so no rotation:"
            " one of its axes points the wrong way"
        )
    pose[:3, :3] = U @ Vh
    return pose


def _applied(content: Mapping[str, Any], file: Path) -> Tensor:
    """From the original world to the file's: a rotation, a scale and a shift."""
    where = f"'{file}', applied_transform"
    value = content.get("applied_transform")
    applied = torch.eye(4, dtype=torch.float64) if value is None else _matrix(value, where)
    if (scale := _number(content, "applied_scale", f"'{file}'")) is not None:
        applied[:3] *= scale
    size = torch.linalg.det(applied[:3, :3])
    gram = applied[:3, :3] @ applied[:3, :3].T
    ideal = torch.eye(3, dtype=torch.float64) * size.abs() ** (2 / 3)
    if size <= 1e-18 or (gram - ideal).abs().max() > _ROTATION_ERROR * ideal.max():
        raise FormatError(f"{where} is no rotation with a scale and a shift")
    return applied
