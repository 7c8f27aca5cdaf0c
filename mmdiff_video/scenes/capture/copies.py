"""Working copies of pictures: upright, small enough, pinhole where their lens is known."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.scenes.capture.sources import Source, View, plain_name
from recon.lenses import Lens, straightened, undistort, without_blanks

IMAGES, MASKS = "images", "masks"
_FAST_PNG = 1
"""Compression: level 6 takes five times as long for a tenth less."""


@dataclass(frozen=True, eq=False)
class Copy:
    """A picture as the capture has it.

    Attributes:
        name: path below ``images``; ends in ``.png``.
        original: what the source calls it.
        width, height: in pixels.
        lens: pinhole, for this size; None: not known.
        viewmat: [4, 4] float64, world-to-camera; None: not known.
        mask: path below the folder of the capture.
        focal: in pixels of this size, as EXIF says.
    """

    name: str
    original: str
    width: int
    height: int
    lens: Lens | None = None
    viewmat: Tensor | None = None
    mask: Path | None = None
    focal: float | None = None

    def camera(self) -> tuple[Lens, Tensor]:
        """The lens and viewmat of a picture whose source has poses."""
        assert self.lens is not None, "a source with poses gives each picture a lens"
        assert self.viewmat is not None, "a source with poses gives each picture a viewmat"
        return self.lens, self.viewmat


def take_in(
    source: Source, folder: Path, longest_side: int, progress: Callable[[str], None]
) -> list[Copy]:
    """Write the pictures of a source as ``images/NAME.png``, and their masks as ``masks/NAME.png``.

    Those that cannot be used get their reason in ``source.left_out``.
    """
    taken: dict[str, Copy] = {}
    for number, view in enumerate(source.views(), start=1):
        progress(f"picture {number} of {source.count}")
        name = plain_name(view.name, taken)
        try:
            taken[name.lower()] = _copy(view, name, folder, longest_side)
        except PictureError as error:
            source.left_out[shown(view.name)] = str(error)
    return list(taken.values())


def flatten(path: Path, lens: Lens) -> Lens:
    """Redraw a picture of a lens as a pinhole camera sees it; returns that one's lens."""
    lens = straightened(lens)
    flat = without_blanks(lens)
    if flat is not lens:
        _write(path, _redrawn(np.array(Image.open(path)), lens, flat))
    return flat


def _copy(view: View, name: str, folder: Path, longest_side: int) -> Copy:
    height, width = view.picture.shape[:2]
    scale = min(1.0, longest_side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = _resized(view.picture, size)
    mask = None if view.mask is None else _resized(_read_mask(view.mask), size)
    lens = view.lens
    if lens is not None:
        lens = straightened(lens.resized(*size))
        flat = without_blanks(lens)
        if flat is not lens:
            picture = _redrawn(picture, lens, flat)
            mask = None if mask is None else _redrawn(mask[..., None], lens, flat)[..., 0]
            lens = flat
    _write(folder / IMAGES / name, picture)
    if mask is not None:
        _write(folder / MASKS / name, mask)
    return Copy(
        name,
        view.name,
        *size,
        lens,
        view.viewmat,
        None if mask is None else Path(MASKS, name),
        None if view.focal is None else view.focal * scale,
    )


def _read_mask(path: Path) -> NDArray[np.uint8]:
    return np.where(read_rgb(path).max(-1) > 127, 255, 0).astype(np.uint8)


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if picture.shape[1::-1] == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _redrawn(picture: NDArray[np.uint8], lens: Lens, flat: Lens) -> NDArray[np.uint8]:
    values = torch.from_numpy(picture).permute(2, 0, 1).float()
    drawn = undistort(values, lens, flat, mode="bicubic")
    return drawn.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=_FAST_PNG)
