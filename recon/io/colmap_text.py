"""The text files of a COLMAP model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from recon.io.colmap_model import ColmapCamera, ColmapImage, Model, Points
from recon.io.format_error import FormatError

Value = TypeVar("Value")


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Read ``cameras.txt``.

    Raises:
        FormatError: a line that cannot be read, or a camera model that is not read.
    """

    def parse(line: str) -> tuple[int, ColmapCamera]:
        key, model, width, height, *params = line.split()
        camera = ColmapCamera(model, int(width), int(height), tuple(map(float, params)))
        return int(key), camera

    return dict(_parse(path, number, line, parse) for number, line in _lines(path))


def read_images(path: Path) -> dict[int, ColmapImage]:
    """Read ``images.txt``.

    Raises:
        FormatError: a line that cannot be read.
    """
    images: dict[int, ColmapImage] = {}
    lines = _lines(path, blank=True)
    for number, line in lines:
        if not line.strip():  # after the last image
            continue
        second = next(lines, (number + 1, ""))
        key, name, camera, pose = _parse(path, number, line, _image)
        keypoints = _parse(path, *second, _keypoints)
        images[key] = ColmapImage(
            name, camera, pose[:4], pose[4:], keypoints[:, :2].copy(), keypoints[:, 2].astype(int)
        )
    return images


def read_points3d(path: Path) -> Points:
    """Read ``points3D.txt``.

    Raises:
        FormatError: a line that cannot be read.
    """

    def parse(line: str) -> tuple[int, list[float], list[int], float, np.ndarray]:
        words = line.split()
        track = np.array([int(w) for w in words[8:]], np.int64)
        rgb = [int(w) for w in words[4:7]]
        if len(track) % 2 or len(words) < 8 or not all(0 <= c <= 255 for c in rgb):
            raise ValueError
        return (
            int(words[0]),
            [float(w) for w in words[1:4]],
            rgb,
            float(words[7]),
            track.reshape(-1, 2),
        )

    rows = [_parse(path, number, line, parse) for number, line in _lines(path)]
    if not rows:
        return Points.none()
    ids, xyz, rgb, errors, tracks = zip(*rows, strict=True)
    return Points(
        np.array(ids, np.int64),
        np.array(xyz, np.float64),
        np.array(rgb, np.uint8),
        np.array(errors, np.float64),
        list(tracks),
    )


def write(folder: Path, model: Model) -> None:
    """Write the three files of a model; numbers are written so that reading gives them back."""
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for key, camera in model.cameras.items():
        params = _words(camera.params)
        cameras.append(f"{key} {camera.model} {camera.width} {camera.height} {params}")
    images = [
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "# POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    for key, image in model.images.items():
        pose = _words([*image.quat, *image.translation])
        images.append(f"{key} {pose} {image.camera} {image.name}")
        each = zip(image.keypoints, image.points, strict=True)
        images.append(" ".join(f"{_words(xy)} {point}" for xy, point in each))
    points = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    found = model.points
    for key, xyz, rgb, error, track in zip(
        found.ids, found.xyz, found.rgb, found.errors, found.tracks, strict=True
    ):
        color = " ".join(map(str, rgb))
        members = " ".join(map(str, track.reshape(-1)))
        points.append(f"{key} {_words(xyz)} {color} {_words([error])} {members}".rstrip())
    for name, lines in (("cameras", cameras), ("images", images), ("points3D", points)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lines(path: Path, *, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Numbered lines that are no comments; ``blank``: empty ones too."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"'{path}' is not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith("#") and (blank or line.strip()):
            yield number, line


def _parse(path: Path, number: int, line: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(line)
    except FormatError as error:
        raise FormatError(f"'{path}', line {number}: {error}") from None
    except (ValueError, OverflowError):
        raise FormatError(f"'{path}', line {number} is not understood: '{line[:60]}'") from None


def _image(line: str) -> tuple[int, str, int, np.ndarray]:
    # the name is the rest of the line: it may hold spaces
    key, *pose, camera, name = line.strip().split(maxsplit=9)
    if len(pose) != 7:
        raise ValueError
    return int(key), name, int(camera), np.array([float(w) for w in pose])


def _keypoints(line: str) -> np.ndarray:
    return np.array([float(w) for w in line.split()]).reshape(-1, 3)


def _words(values) -> str:
    return " ".join(repr(float(v)) for v in values)
