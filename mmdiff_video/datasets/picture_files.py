"""Picture and label files to arrays and back, each broken or unfit one with a sentence of its own.

There is one reader of pictures and one of labels for all layouts. Pictures: 16 bits are scaled to
8, grey becomes RGB, transparency is laid over white. Labels come as they are stored.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mmdiff_video.files import write_aside

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Names of pictures end like this, in any case."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")
"""Pillow's modes of grey pictures of more than 8 bits."""

DEEP_RGB = "RGB;16"
"""Mode of a PNG of three times 16 bits, which Pillow would cut to 8."""

ARRAY = "npy"
"""Mode of a label that is a numpy array."""


class PictureError(Exception):
    """A single picture cannot be used; the message is the reason that reports show."""


@dataclass(frozen=True)
class StoredLabel:
    """A label as its file has it.

    Attributes:
        name: of the file, for messages.
        mode: Pillow's, :data:`DEEP_RGB` or :data:`ARRAY`.
        values: [H, W] or [H, W, channels], in the number format of the file.
        image: as Pillow has it; None for an array.
    """

    name: str
    mode: str
    values: NDArray[Any]
    image: Image.Image | None


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture (hidden files are none)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_rgb(file: Path | BytesIO, *, upright: bool = False, name: str = "") -> NDArray[np.uint8]:
    """Read a picture: uint8 RGB [H, W, 3].

    Args:
        file: of any format that Pillow reads, on disk or in memory.
        upright: turn it as its EXIF orientation says. Not for pictures with labels, which were
            drawn on the pixels as stored.
        name: for messages, where the file has none.

    Raises:
        PictureError: missing, cut short or no picture.
    """
    image = _open(file, name)
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image).astype(np.float32) / 257  # 65535 becomes 255
        return np.repeat(values.round().clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def read_label(path: Path) -> StoredLabel:
    """Read a label file, a picture or a numpy array (``.npy``), as it is stored.

    Raises:
        PictureError: missing, cut short, or neither picture nor array.
    """
    if path.suffix.lower() == ".npy":
        return StoredLabel(path.name, ARRAY, _read_array(path), None)
    image = _open(path, "")
    if image.mode == "RGB" and _is_deep_rgb(path):
        return StoredLabel(path.name, DEEP_RGB, _read_deep_rgb(path), image)
    return StoredLabel(path.name, image.mode, np.array(image), image)


def write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture uint8 [H, W, 3] in one step."""
    # in memory first: Pillow does not notice where a disk takes only part of a JPEG
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, format="JPEG", quality=95)
    with write_aside(path, flush=False) as aside:
        aside.write_bytes(encoded.getvalue())


def write_label(path: Path, values: NDArray[Any], palette: NDArray[np.uint8] | None = None) -> None:
    """Write a label as PNG in one step: what :func:`read_label` gives back.

    Args:
        path: ends in ``.png``.
        values: [H, W] of uint8 or uint16, or RGB [H, W, 3] of uint8 or uint16.
        palette: [256, 3], colours of the values of an 8-bit [H, W], which it makes a palette
            picture.
    """
    with write_aside(path, flush=False) as aside:
        if values.ndim == 3 and values.dtype == np.uint16:
            aside.write_bytes(_deep_rgb_png(values))
            return
        image = Image.fromarray(values, mode="P") if palette is not None else None
        if image is not None and palette is not None:
            image.putpalette(palette.reshape(-1).tolist())
        (image or Image.fromarray(values)).save(aside)


def _open(file: Path | BytesIO, name: str) -> Image.Image:
    name = file.name if isinstance(file, Path) else name
    try:
        with Image.open(file) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise PictureError(f"no file '{file}'") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"{name} is not a picture") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{name} cannot be read, it is cut short or damaged: {error}") from None


def _read_array(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise PictureError(f"no file '{path}'") from None
    except (OSError, ValueError, EOFError) as error:
        raise PictureError(f"{path.name} is no numpy array, or damaged: {error}") from None


def _is_deep_rgb(path: Path) -> bool:
    """Look into a PNG's header: bits of a channel, and the colour type (2 is RGB)."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack("BB", head[24:26]) == (16, 2)


def _read_deep_rgb(path: Path) -> NDArray[np.uint16]:
    import av

    try:
        with av.open(str(path)) as container:
            values: Any = next(container.decode(video=0)).to_ndarray()
            return values
    except (av.FFmpegError, StopIteration) as error:
        raise PictureError(
            f"{path.name} cannot be read, it is cut short or damaged: {error}"
        ) from None


def _deep_rgb_png(values: NDArray[np.uint16]) -> bytes:
    import av

    codec = av.CodecContext.create("png", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width = values.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="rgb48le")
    packets = [*codec.encode(frame.reformat(format="rgb48be")), *codec.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
