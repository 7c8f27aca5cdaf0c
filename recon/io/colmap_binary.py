"""The binary files of a COLMAP model: little-endian, as ``reconstruction_io.cc`` writes them."""

import struct
from pathlib import Path

import numpy as np

from recon.io.colmap_model import MODELS, OTHER_MODELS, ColmapCamera, ColmapImage, Model, Points
from recon.io.format_error import FormatError

_NUMBERS = [*MODELS, *OTHER_MODELS]
"""Place -> name of a camera model."""

_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_TRACK = np.dtype("<u4")


class _Cursor:
    """Reads one value after the other, and refuses to read beyond the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.place = 0

    def take(self, layout: str) -> tuple:
        layout = f"<{layout}"
        end = self.place + struct.calcsize(layout)
        if end > len(self.data):
            raise self._cut_off()
        values = struct.unpack_from(layout, self.data, self.place)
        self.place = end
        return values

    def count(self, each: int) -> int:
        """A number of things of at least ``each`` bytes that follow."""
        (number,) = self.take("Q")
        if number * each > len(self.data) - self.place:
            raise self._cut_off()
        return number

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        values = np.frombuffer(self.data, dtype, count, self.place)
        self.place += count * dtype.itemsize
        return values

    def name(self) -> str:
        end = self.data.find(b"\0", self.place)
        if end < 0:
            raise self._cut_off()
        raw = self.data[self.place : end]
        self.place = end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"'{self.path}': the name {raw!r} is not UTF-8") from None

    def finish(self) -> None:
        if self.place != len(self.data):
            raise FormatError(f"'{self.path}' holds more than it announces: it is damaged")

    def _cut_off(self) -> FormatError:
        return FormatError(f"'{self.path}' is cut off or damaged")


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Read ``cameras.bin``.

    Raises:
        FormatError: damaged, or a camera model that is not read.
    """
    file, cameras = _Cursor(path), {}
    for _ in range(file.count(24)):
        key, number, width, height = file.take("IiQQ")
        if not 0 <= number < len(_NUMBERS):
            raise FormatError(f"'{path}': there is no camera model of the number {number}")
        name = _NUMBERS[number]
        size = len(MODELS[name]) if name in MODELS else OTHER_MODELS[name]
        params = file.take(f"{size}d")
        try:
            cameras[key] = ColmapCamera(name, width, height, params)
        except FormatError as error:
            raise FormatError(f"'{path}', camera {key}: {error}") from None
    file.finish()
    return cameras


def read_images(path: Path) -> dict[int, ColmapImage]:
    """Read ``images.bin``.

    Raises:
        FormatError: damaged.
    """
    file, images = _Cursor(path), {}
    for _ in range(file.count(73)):
        (key,) = file.take("I")
        pose = np.array(file.take("7d"))
        (camera,) = file.take("I")
        name = file.name()
        table = file.array(_KEYPOINT, file.count(_KEYPOINT.itemsize))
        images[key] = ColmapImage(
            name, camera, pose[:4], pose[4:], table["xy"].copy(), table["point"].astype(np.int64)
        )
    file.finish()
    return images


def read_points3d(path: Path) -> Points:
    """Read ``points3D.bin``.

    Raises:
        FormatError: damaged.
    """
    file = _Cursor(path)
    rows, tracks = [], []
    for _ in range(file.count(51)):
        rows.append(file.take("QdddBBBd"))
        length = file.count(2 * _TRACK.itemsize)
        tracks.append(file.array(_TRACK, 2 * length).reshape(-1, 2).astype(np.int64))
    file.finish()
    if not rows:
        return Points.none()
    ids, x, y, z, r, g, b, errors = zip(*rows, strict=True)
    return Points(
        np.array(ids, np.uint64).astype(np.int64),
        np.array([x, y, z], np.float64).T.copy(),
        np.array([r, g, b], np.uint8).T.copy(),
        np.array(errors, np.float64),
        tracks,
    )


def write(folder: Path, model: Model) -> None:
    """Write the three files of a model."""
    cameras = [struct.pack("<Q", len(model.cameras))]
    for key, camera in model.cameras.items():
        number = _NUMBERS.index(camera.model)
        cameras.append(struct.pack("<IiQQ", key, number, camera.width, camera.height))
        cameras.append(struct.pack(f"<{len(camera.params)}d", *camera.params))
    images = [struct.pack("<Q", len(model.images))]
    for key, image in model.images.items():
        images.append(struct.pack("<I7dI", key, *image.quat, *image.translation, image.camera))
        images.append(image.name.encode() + b"\0" + struct.pack("<Q", len(image.points)))
        table = np.empty(len(image.points), _KEYPOINT)
        table["xy"], table["point"] = image.keypoints, image.points
        images.append(table.tobytes())
    found = model.points
    points = [struct.pack("<Q", len(found))]
    for key, xyz, rgb, error, track in zip(
        found.ids, found.xyz, found.rgb, found.errors, found.tracks, strict=True
    ):
        points.append(struct.pack("<QdddBBBd", key, *xyz, *rgb, error))
        points.append(struct.pack("<Q", len(track)) + track.astype(_TRACK).tobytes())
    for name, parts in (("cameras", cameras), ("images", images), ("points3D", points)):
        (folder / f"{name}.bin").write_bytes(b"".join(parts))
