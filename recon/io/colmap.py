"""COLMAP models (``sparse/0``) on disk, text and binary."""

from pathlib import Path
from typing import Any

import numpy as np

from recon.io import colmap_binary, colmap_text
from recon.io.colmap_model import Model
from recon.io.format_error import FormatError


def find_model(project: Path) -> Path | None:
    """Find the folder of a model: the project itself, ``sparse/0`` or ``sparse`` in it.

    Where ``sparse`` holds several, the one with the largest file of images is the model.
    """
    folders = [project, *sorted((project / "sparse").glob("*")), project / "sparse"]
    found = [(path, images) for path in folders if (images := _file(path, "images"))]
    if not found:
        return None
    return max(found, key=lambda entry: entry[1].stat().st_size)[0]


def read_model(folder: Path) -> Model:
    """Read a model, binary where both kinds are there.

    Raises:
        FormatError: a file is missing or damaged, a camera of a model that is not read, or an
            image of a camera that is not there.
    """
    files = {name: _file(folder, name) for name in ("cameras", "images", "points3D")}
    if missing := [name for name, path in files.items() if path is None]:
        raise FormatError(f"'{folder}' is no COLMAP model: it has no {missing[0]}.bin or .txt")
    values: dict[str, Any] = {}
    for name, path in files.items():
        assert path is not None
        reader = colmap_binary if path.suffix == ".bin" else colmap_text
        values[name] = getattr(reader, f"read_{name.lower()}")(path)
    model = Model(values["cameras"], values["images"], values["points3D"])
    _check(model, folder)
    return model


def write_model(folder: Path, model: Model, *, text: bool = False) -> None:
    """Write a model into a folder, which is made; its files are replaced one by one.

    Args:
        folder: usually PROJECT/sparse/0.
        model: what to write.
        text: as text instead of binary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (colmap_text if text else colmap_binary).write(folder, model)


def _file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / f"{name}{s}" for s in (".bin", ".txt")) if p.is_file()), None)


def _check(model: Model, folder: Path) -> None:
    for key, camera in model.cameras.items():
        try:
            camera.lens  # noqa: B018 (says what is wrong with it)
        except FormatError as error:
            raise FormatError(f"'{folder}', camera {key}: {error}") from None
    for image in model.images.values():
        where = f"'{folder}', image '{image.name}'"
        if image.camera not in model.cameras:
            raise FormatError(f"{where}: its camera {image.camera} is not among the cameras")
        # a quaternion of any sane length is a rotation
        lengths = np.abs(image.quat).max(), np.abs(image.translation).max()
        if not (1e-6 < lengths[0] < 1e6 and lengths[1] < 1e12):  # NaN fails too
            raise FormatError(f"{where}: its pose is no rotation and translation")
    if not np.isfinite(model.points.xyz).all():
        raise FormatError(f"'{folder}': a point is NaN or infinite")
