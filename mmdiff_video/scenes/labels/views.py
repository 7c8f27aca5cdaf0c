"""The pictures of a scene with their cameras, as heads look at them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json
from mmdiff_video.scenes.folder import CAMERAS, CAPTURE, REPORT
from recon.capture.capture import Photo, load_capture
from recon.io.format_error import FormatError
from recon.lenses import Lens

_SCORED = "views"
"""In the report of a scene: the pictures that the Gaussians were not fitted to, by name."""

_ASPECT_TOLERANCE = 0.02
"""By which a picture may be wider or narrower than its camera says, as a share."""


@dataclass(frozen=True, eq=False)
class LiftView:
    """The camera of a picture, for pictures of the size at which labels are fused.

    Attributes:
        name: of the picture in the capture.
        viewmat: [4, 4] float32, world-to-camera, OpenCV axes.
        K: [3, 3] float32, in pixels of width x height.
        width, height: in pixels.
        mask: bool [height, width], what belongs to the scene; None: everything.
    """

    name: str
    viewmat: Tensor
    K: Tensor
    width: int
    height: int
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class ScenePictures:
    """The pictures of a scene, read one by one.

    Attributes:
        photos: those whose files are there.
        held_out: names of pictures that the Gaussians were not fitted to.
        skipped: picture -> why it cannot be used; grows while they are read.
        longest_side: see :func:`open_pictures`.
    """

    photos: Sequence[Photo]
    held_out: frozenset[str]
    skipped: dict[str, str]
    longest_side: int

    def __iter__(self) -> Iterator[tuple[LiftView, NDArray[np.uint8]]]:
        """Read picture by picture, uint8 [H, W, 3], as large as it is stored.

        One that cannot be used is skipped, with its reason.
        """
        for photo in self.photos:
            if photo.name in self.skipped:
                continue
            try:
                yield _read(photo, self.longest_side)
            except PictureError as error:
                self.skipped[photo.name] = str(error)


def open_pictures(scene: Path, longest_side: int) -> ScenePictures:
    """Find the pictures of a scene, with the cameras that its fit ended with.

    Args:
        scene: its folder.
        longest_side: pixels of the labels' longer side, if pictures are larger.

    Raises:
        InputError: the scene has no capture, one that cannot be read, or a damaged report.
    """
    folder = scene / CAPTURE
    if not folder.is_dir():
        raise InputError(
            f"'{scene}' has no {CAPTURE}/, and its pictures and cameras are needed to label it:"
            " `mmdiff-video reconstruct` makes them"
        )
    try:
        capture = load_capture(folder)
        fitted = load_capture(scene / CAMERAS) if (scene / CAMERAS).is_file() else capture
    except FormatError as error:
        raise InputError(str(error)) from None
    cameras = {photo.path: photo for photo in fitted.photos}
    skipped = dict(capture.left_out)
    photos: list[Photo] = []
    for photo in capture.photos:
        camera = cameras.get(photo.path)
        if camera is None:
            skipped[photo.name] = f"the scene has no camera of it in {CAMERAS}"
        else:
            photos.append(replace(photo, lens=camera.lens, viewmat=camera.viewmat))
    return ScenePictures(photos, _held_out(scene), skipped, longest_side)


def _held_out(scene: Path) -> frozenset[str]:
    path = scene / REPORT
    found = read_json(path) if path.is_file() else {}
    scored = found.get(_SCORED, {}) if isinstance(found, dict) else None
    if not isinstance(scored, dict):
        raise InputError(f"'{path}' is damaged: its {_SCORED} are not pictures by name")
    return frozenset(scored)


def _read(photo: Photo, longest_side: int) -> tuple[LiftView, NDArray[np.uint8]]:
    """Read a picture and its mask.

    Raises:
        PictureError: one of them cannot be used.
    """
    if not photo.lens.is_pinhole:
        raise PictureError(
            f"{photo.name} is of a lens that bends straight lines: a scene has undistorted pictures"
        )
    pixels = read_rgb(photo.path)
    height, width = pixels.shape[:2]
    aspect = photo.lens.width / photo.lens.height
    if not abs(width / height / aspect - 1) < _ASPECT_TOLERANCE:
        raise PictureError(
            f"{photo.name} is {width}x{height} pixels, and its camera makes"
            f" {photo.lens.width}x{photo.lens.height}"
        )
    shrink = min(1.0, longest_side / max(height, width))
    lens: Lens = photo.lens.resized(max(1, round(width * shrink)), max(1, round(height * shrink)))
    mask = None if photo.mask is None else _read_mask(photo.mask, lens)
    view = LiftView(
        photo.name, photo.viewmat.float(), lens.K().float(), lens.width, lens.height, mask
    )
    return view, pixels


def _read_mask(path: Path, lens: Lens) -> Tensor:
    """Read what belongs to the scene (white), bool [H, W] of the lens."""
    pixels = Image.fromarray(read_rgb(path)).convert("L")
    mask = np.asarray(pixels.resize((lens.width, lens.height), Image.Resampling.BOX))
    return torch.from_numpy(mask > 127)
