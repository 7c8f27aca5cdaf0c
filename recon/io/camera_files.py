"""Cameras alone, from the files that have them beside pictures; the pictures may be gone."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from recon.io.colmap import find_model, read_model
from recon.io.format_error import FormatError
from recon.io.transforms import read_transforms
from recon.lenses import Lens

TRANSFORMS = "transforms.json"


class Cameras(NamedTuple):
    """V cameras of one world.

    Attributes:
        lenses: V of them.
        viewmats: [V, 4, 4] float64, world-to-camera, OpenCV axes.
    """

    lenses: list[Lens]
    viewmats: Tensor


def load_cameras(path: Path) -> Cameras:
    """Read the cameras of a COLMAP project, or of a ``transforms.json`` (the file, or its folder).

    Those of a project come in the order of their pictures' names, others in that of the file.

    Raises:
        FormatError: neither is there, one that cannot be read, or one without cameras.
    """
    if path.is_file():
        return _of_transforms(path)
    if (folder := find_model(path)) is not None:
        model = read_model(folder)
        images = sorted(model.images.values(), key=lambda image: image.name)
        if not images:
            raise FormatError(f"'{folder}' has no registered picture, so no camera")
        return Cameras(
            [model.cameras[image.camera].lens for image in images],
            torch.stack([image.viewmat() for image in images]),
        )
    if (path / TRANSFORMS).is_file():
        return _of_transforms(path / TRANSFORMS)
    raise FormatError(
        f"'{path}' holds no cameras: it is neither a COLMAP project (sparse/0/cameras.bin or .txt)"
        f" nor a {TRANSFORMS} or a folder with one"
    )


def _of_transforms(file: Path) -> Cameras:
    frames = read_transforms(file, pictures=False).frames
    return Cameras([f.lens for f in frames], torch.stack([f.viewmat for f in frames]))
