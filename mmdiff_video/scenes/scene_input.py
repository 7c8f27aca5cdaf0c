"""A scene that a command is given: a file of Gaussians, or the folder of a fitted scene."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from mmdiff_video.errors import InputError
from mmdiff_video.scenes.folder import CAMERAS, CAPTURE, GAUSSIANS, is_scene
from recon.gaussians import Gaussians
from recon.io.camera_files import Cameras, load_cameras
from recon.io.format_error import FormatError
from recon.io.scene_files import SCENE_FORMATS, load_scene

logger = logging.getLogger(__name__)


class SceneInput(NamedTuple):
    """What was given.

    Attributes:
        path: of the file of Gaussians.
        gaussians: one scene of one or more Gaussians, all finite, on the CPU.
        cameras: that it was seen with; None: they are not known.
    """

    path: Path
    gaussians: Gaussians
    cameras: Cameras | None


def read_scene(path: Path, cameras: Path | None = None) -> SceneInput:
    """Read a scene; Gaussians that hold NaN or infinity are left out, and the log says how many.

    Args:
        path: a .ply, .spz or .splat, or the folder of a fitted scene.
        cameras: a COLMAP project, or a ``transforms.json`` (the file, or its folder), in the world
            of the scene; None: those in the folder of the scene, if there are any.

    Raises:
        InputError: no such scene or cameras there, damaged ones, or an empty scene.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        if not is_scene(path):
            raise InputError(
                f"'{path}' is no scene: a folder of one has a {GAUSSIANS}; or name a file"
                f" ({', '.join(SCENE_FORMATS)})"
            )
        if cameras is None:  # those that the fit ended with, else those that it began with
            own = (path / CAMERAS, path / CAPTURE)
            cameras = next((place for place in own if place.exists()), None)
        path = path / GAUSSIANS
    with warnings_told():
        try:
            gaussians = load_scene(path)
            seen = None if cameras is None else load_cameras(cameras)
        except FormatError as error:
            raise InputError(str(error)) from None
    return SceneInput(path, _finite(gaussians, path), seen)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Log what readers and writers of files warn of, a sentence each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        logger.warning("%s", warning.message)


def _finite(gaussians: Gaussians, path: Path) -> Gaussians:
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None])
    kept = torch.cat([*parts, gaussians.colors.flatten(1)], 1).isfinite().all(1)
    count = int(kept.sum())
    if not count:
        raise InputError(f"'{path}': none of its {len(kept)} Gaussians is of finite numbers")
    if count < len(kept):
        logger.warning("%s: %d of %d Gaussians are left out", path, len(kept) - count, len(kept))
        return gaussians[kept]
    return gaussians
