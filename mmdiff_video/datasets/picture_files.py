"""Picture files to arrays, each broken or unfit one with a sentence of its own.

Pictures: 16 bits are scaled to 8, grey becomes RGB, transparency is laid over white.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Names of pictures end like this, in any case."""

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")


class PictureError(Exception):
    """A single picture cannot be used; the message is the reason that reports show."""


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture (hidden files are none)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_rgb(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """Read a picture: uint8 [H, W, 3].

    Args:
        path: any format that Pillow reads.
        upright: turn it as its EXIF orientation says. Not for pictures with labels, which were
            drawn on the pixels as stored.

    Raises:
        PictureError: missing, cut short or no picture.
    """
    image = _open(path)
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BITS:
        values = np.asarray(image).astype(np.float32) / 257  # 65535 becomes 255
        return np.repeat(values.round().clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def read_labels(path: Path, classes: int, void: int) -> NDArray[np.uint8]:
    """Read a label picture: uint8 [H, W], class ids below ``classes``, or ``void``.

    Raises:
        PictureError: unreadable, not a palette or grey picture, or a label beyond the classes.
    """
    image = _open(path)
    if image.mode not in ("P", "L", "1", *_SIXTEEN_BITS):
        raise PictureError(
            f"{path.name} is a {image.mode} picture: labels are palette or grey pictures whose"
            " pixel values are class ids"
        )
    labels = np.array(image).astype(np.int64)
    wrong = (labels != void) & ((labels >= classes) | (labels < 0))
    if wrong.any():
        raise PictureError(
            f"{path.name} holds label {labels[wrong].max()}, but there are {classes} classes"
            f" (0 to {classes - 1}, and {void} for void)"
        )
    return labels.astype(np.uint8)


def read_depth(path: Path, unit: float) -> NDArray[np.float32]:
    """Read a 16-bit depth picture: float32 [H, W] in metres, 0 where there is none.

    Args:
        path: the picture.
        unit: metres of one step of its values.

    Raises:
        PictureError: unreadable, or not of 16 bits.
    """
    image = _open(path)
    if image.mode not in _SIXTEEN_BITS:
        bits = "8-bit " if image.mode in ("L", "P", "RGB", "RGBA", "1") else ""
        raise PictureError(
            f"{path.name} is an {bits}{image.mode} picture: depth is a 16-bit grey PNG"
            f" in steps of {unit:g} m"
        )
    return np.asarray(image).astype(np.float32) * np.float32(unit)


def read_mask(path: Path) -> NDArray[np.float32]:
    """Read a saliency mask: float32 [H, W], 1 where its grey value is above 128, else 0.

    Raises:
        PictureError: unreadable, or its values are 0 and 1 instead of 0 and 255.
    """
    image = _open(path)
    if image.mode in _SIXTEEN_BITS:
        raise PictureError(f"{path.name} has 16 bits: a mask is an 8-bit picture of 0 and 255")
    mask = np.array(image.convert("L"))
    if mask.max() == 1:
        raise PictureError(f"the largest value of {path.name} is 1: a mask holds 0 and 255")
    return (mask > 128).astype(np.float32)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise PictureError(f"no file '{path}'") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"{path.name} is not a picture") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"{path.name} cannot be read, it is cut short or damaged: {error}"
        ) from None
