"""Poses of bare pictures, by COLMAP, and the pictures made those of pinhole cameras."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from mmdiff_video.scenes.capture.copies import IMAGES, Copy, flatten
from mmdiff_video.scenes.capture.memory import feature_threads
from mmdiff_video.scenes.capture.posed import Posed
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.capture.sources import Source
from recon.capture.poses import CameraGroup, find_poses
from recon.io.colmap_model import MODELS, ColmapCamera
from recon.lenses import Lens


def find(
    source: Source,
    copies: list[Copy],
    folder: Path,
    work: Path,
    settings: CaptureSettings,
    progress: Callable[[str], None],
) -> Posed:
    """Find the cameras of pictures that have none.

    Args:
        source: of the pictures.
        copies: the pictures.
        folder: of the capture, which has them; they become those of pinhole cameras.
        work: an empty folder for what is made on the way.
        settings: of the capture.
        progress: is told the stages.

    Raises:
        InputError: pictures too large for the memory.
        PosesError: none was found; says why.
    """
    found = find_poses(
        folder / IMAGES,
        [copy.name for copy in copies],
        work,
        ordered=source.ordered,
        groups=groups(copies, settings, video=source.ordered),
        seed=settings.seed,
        threads=feature_threads(copies),
        progress=progress,
    )
    progress("undistortion")
    began = time.monotonic()
    images = {image.name: image for image in found.model.images.values()}
    cameras = found.model.cameras
    views = []
    for copy in copies:
        if (image := images.get(copy.name)) is not None:
            lens = flatten(folder / IMAGES / copy.name, cameras[image.camera].lens)
            views.append((copy, lens, image.viewmat()))
    first = cameras[images[views[0][0].name].camera]
    original = {copy.name: copy.original for copy in copies}
    return Posed(
        views=views,
        dropped=[copy for copy in copies if copy.name not in images],
        left_out={original[name]: reason for name, reason in found.left_out.items()},
        points=torch.from_numpy(found.model.points.xyz),
        rgb=torch.from_numpy(found.model.points.rgb),
        reprojection_error=found.reprojection_error,
        chosen=found.chosen,
        attempts=found.attempts,
        camera=in_words(first),
        seconds=found.seconds | {"undistortion": round(time.monotonic() - began, 2)},
    )


def groups(copies: list[Copy], settings: CaptureSettings, *, video: bool) -> list[CameraGroup]:
    """Which pictures share a camera: all of a video, and photographs of one size and zoom.

    ``settings.one_camera`` says otherwise; pictures of different sizes never share one.
    """
    wanted = settings.one_camera
    model = settings.camera_model or ("SIMPLE_PINHOLE" if video else "SIMPLE_RADIAL")
    together: dict[object, list[Copy]] = {}
    for number, copy in enumerate(copies):
        zoom = None if wanted or video else copy.focal and round(copy.focal, 1)
        key = number if wanted is False else (copy.width, copy.height, zoom)
        together.setdefault(key, []).append(copy)
    return [
        CameraGroup([copy.name for copy in group], model, _guess(group[0], model))
        for group in together.values()
    ]


def _guess(copy: Copy, model: str) -> list[float]:
    """Parameters of the camera model with the focal length of EXIF; empty where there is none."""
    if copy.focal is None:
        return []
    known = {"cx": copy.width / 2, "cy": copy.height / 2}
    known |= dict.fromkeys(("f", "fx", "fy"), copy.focal)
    return [known.get(name, 0.0) for name in MODELS[model]]


def in_words(camera: ColmapCamera) -> str:
    """A camera as a line for reports."""
    params = ", ".join(
        f"{name} {value:.4g}"
        for name, value in zip(MODELS[camera.model], camera.params, strict=True)
    )
    return f"{camera.model} {camera.width}x{camera.height}, {params}"


def lens_in_words(lens: Lens) -> str:
    """The same of a lens."""
    return in_words(ColmapCamera.of(lens))
