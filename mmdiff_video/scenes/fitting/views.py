"""The pictures of a capture as a fit takes them: in memory, shrunk, of one size."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.errors import InputError
from recon.capture.capture import Capture, Photo
from recon.fit import FitViews

_LEAST_VIEWS = 3
"""Two that are fitted, and one that is held out."""

_SHOWN = 127
"""Grey of a mask above which a pixel belongs to the scene."""


@dataclass(frozen=True, eq=False)
class SceneViews:
    """Pictures of a capture for a fit.

    Attributes:
        all: every picture, in the world of the capture; smaller ones than the largest are at the
            upper left, and masked where nothing is.
        names: of the pictures.
        sizes: width and height of each picture.
        fitted: numbers of those to fit.
        held_out: numbers of those that are kept from the fit.
    """

    all: FitViews
    names: list[str]
    sizes: list[tuple[int, int]]
    fitted: list[int]
    held_out: list[int]


def load_views(capture: Capture, longest_side: int, hold_out: int) -> SceneViews:
    """Read the pictures of an undistorted capture.

    Args:
        capture: pinhole cameras.
        longest_side: pixels to which larger pictures are shrunk.
        hold_out: every so-manieth picture is held out, from the first on; 0: none.

    Raises:
        InputError: a picture that cannot be read, a lens that is not a pinhole, or too few
            pictures.
    """
    if len(capture.photos) < _LEAST_VIEWS:
        raise InputError(
            f"{capture.source} has {len(capture.photos)} pictures: a scene needs {_LEAST_VIEWS} at"
            " least"
        )
    loaded = [_load(photo, longest_side) for photo in capture.photos]
    sizes = [(picture.shape[1], picture.shape[0]) for picture, _, _ in loaded]
    width, height = (max(size[side] for size in sizes) for side in (0, 1))
    images = torch.zeros(len(loaded), height, width, 3, dtype=torch.uint8)
    masks = torch.zeros(len(loaded), height, width, dtype=torch.bool)
    for number, (picture, mask, _) in enumerate(loaded):
        h, w = picture.shape[:2]
        images[number, :h, :w] = torch.from_numpy(picture)
        masks[number, :h, :w] = True if mask is None else torch.from_numpy(mask)
    views = FitViews(
        images,
        capture.viewmats().float(),
        torch.stack([K for _, _, K in loaded]),
        None if masks.all() else masks,
    )
    numbers = range(len(loaded))
    held_out = [n for n in numbers if hold_out and n % hold_out == 0]
    fitted = [n for n in numbers if n not in held_out]
    return SceneViews(views, [photo.name for photo in capture.photos], sizes, fitted, held_out)


def _load(photo: Photo, longest_side: int) -> tuple[NDArray[np.uint8], Any, Tensor]:
    """A picture uint8 [H, W, 3], its mask bool [H, W] or None, and its intrinsics [3, 3]."""
    if not photo.lens.is_pinhole:
        raise InputError(f"'{photo.path}' is distorted: undistort it (mmdiff-video capture)")
    picture = Image.fromarray(_read(photo.path))
    share = min(1.0, longest_side / max(picture.size))
    width, height = (max(1, round(side * share)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    mask = None
    if photo.mask is not None:
        shown = Image.fromarray(_read(photo.mask)).convert("L").resize((width, height))
        mask = np.asarray(shown) > _SHOWN
    return np.array(picture), mask, photo.lens.resized(width, height).K().float()


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_rgb(path)
    except PictureError as error:
        raise InputError(f"{path.parent}: {error}") from None
