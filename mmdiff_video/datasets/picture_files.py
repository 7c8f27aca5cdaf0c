"""Pictures and labels from their files and back, each broken or unfit one with a sentence.

There is one reader of pictures and one of labels for all layouts. Pictures become RGB of 8 bits;
labels keep the numbers of their files. docs/pictures.md says what becomes of which kind.
"""

from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.picture_decoding import (
    GREY_DEEP,
    Decoded,
    PictureError,
    decode,
    reading,
    refuse_special,
)
from mmdiff_video.files import write_aside

__all__ = [
    "SUFFIXES",
    "PictureError",
    "StoredLabel",
    "is_picture",
    "read_label",
    "read_rgb",
    "write_jpeg",
    "write_label",
]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Names of pictures end like this, in any case."""

_KINDS = {
    "1": "a 1-bit grey picture",
    "L": "an 8-bit grey picture",
    "P": "a palette picture",
    "F": "a grey picture of 32-bit floats",
    "RGB;16": "an RGB picture of 16 bits",
    **dict.fromkeys(GREY_DEEP, "a grey picture of more than 8 bits"),
    **dict.fromkeys(("LA", "LA;16"), "a grey picture with transparent pixels"),
    "PA": "a palette picture with transparent pixels",
    **dict.fromkeys(("RGBA", "RGBA;16"), "an RGBA picture with transparent pixels"),
}


@dataclass(frozen=True)
class StoredLabel:
    """A label as its file has it. Alpha that hides nothing is left out.

    Attributes:
        name: of the file, for messages.
        mode: Pillow's; with ``;16`` for colours of 16 bits; empty for a numpy array.
        values: [H, W] or [H, W, C], the numbers of the file; an array may have another shape.
        picture: what they were read from; None for an array.
    """

    name: str
    mode: str
    values: NDArray[Any]
    picture: Decoded | None

    @property
    def kind(self) -> str:
        """What it is, for messages."""
        if self.picture is None:
            return f"an array of {self.values.dtype} {list(self.values.shape)}"
        kind = _KINDS.get(self.mode, f"{'an' if self.mode[0] in 'RL' else 'a'} {self.mode} picture")
        return kind if not self.picture.lossy else f"a JPEG ({kind})"

    @property
    def is_grey(self) -> bool:
        """Whether it is a grey picture, with one number for each pixel."""
        return self.mode in ("1", "L", "F", *GREY_DEEP)

    @property
    def is_lossy(self) -> bool:
        """Whether its numbers are only near those that were meant."""
        return self.picture is not None and self.picture.lossy

    def palette(self) -> NDArray[np.uint8]:
        """Colours of the values of a palette picture: [256, 3], black where it has none."""
        assert self.picture is not None
        colors = self.picture.image.getpalette("RGB") or []
        table = np.zeros((256, 3), np.uint8)
        table[: len(colors) // 3] = np.reshape(colors, (-1, 3))
        return table

    def colors(self) -> NDArray[np.uint8]:
        """Colours that a viewer shows: grey [H, W], RGB [H, W, 3], or RGB and alpha [H, W, 4].

        Raises:
            PictureError: it is an array, or of values that have no agreed meaning as a picture.
        """
        if self.picture is None:
            raise PictureError(f"{self.name} is {self.kind}, no picture")
        return np.array(self.picture.colors())


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture (hidden files are none)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_rgb(file: Path | BytesIO, *, upright: bool = False, name: str = "") -> NDArray[np.uint8]:
    """Read a picture, of several in a file the first: uint8 RGB [H, W, 3].

    Values of more bits and floats are scaled to 8 bits, grey becomes RGB, transparency is laid over
    white.

    Args:
        file: on disk or in memory.
        upright: turn it as its EXIF orientation says. Not for pictures with labels, which were
            drawn on the pixels as stored. One that is damaged says nothing.
        name: for messages, where the file has none.

    Raises:
        PictureError: missing, cut short, no picture, or one whose values have no agreed meaning.
    """
    image = decode(file, upright=upright, name=name).colors()
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_label(path: Path) -> StoredLabel:
    """Read a label file, a picture or a numpy array (``.npy``), as it is stored.

    Raises:
        PictureError: missing, cut short, neither picture nor array, or several pictures.
    """
    name = shown(path.name)
    if path.suffix.lower() == ".npy":
        return StoredLabel(name, "", _read_array(path), None)
    picture = decode(path, upright=False)
    if picture.pages:
        raise PictureError(f"{name} holds several pictures: keep the one that is the label")
    with reading(name):
        mode, values = picture.numbers()
    return StoredLabel(name, mode, values, picture)


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


def _read_array(path: Path) -> NDArray[Any]:
    with reading(shown(path.name)):
        refuse_special(path)
        # mapped, so that a head that promises too much costs no memory
        values: Any = np.array(np.lib.format.open_memmap(path, mode="r"))
        if not values.size:
            raise PictureError(f"{shown(path.name)} is an array without values")
        return values


def _deep_rgb_png(values: NDArray[np.uint16]) -> bytes:
    import av

    codec = av.CodecContext.create("png", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width = values.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="rgb48le")
    packets = [*codec.encode(frame.reformat(format="rgb48be")), *codec.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
