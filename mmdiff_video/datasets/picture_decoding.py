"""The border with Pillow: picture files to pixels, and whatever goes wrong as one sentence."""

import functools
import os
import stat
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mmdiff_video.datasets.names import shown

GREY_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's modes of grey pictures of more than 8 bits."""

# Pillow knows more formats. Some of them run other programs (EPS) or open other files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""

_TURNS_BACK = _TURNS | {6: _TURNS[8], 8: _TURNS[6]}

_OTHER_HALF = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
"""Of the byte orders that end Pillow's names of 16-bit packings: the one that swaps the halves."""

_OPAQUE = {"LA": "L", "PA": "P", "RGBA": "RGB", "RGBA;16": "RGB;16", "LA;16": "I;16"}
"""Modes with an alpha, and the same without."""

_COLORED = ("RGB", "RGBA", "RGBa", "RGBX", "CMYK")
"""Colours that may have 16 bits each."""

_BITS = ExifTags.Base.BitsPerSample
_MEANING = ExifTags.Base.PhotometricInterpretation
_PLANES = ExifTags.Base.PlanarConfiguration
_COLORS = 320  # tags of TIFF

_WHITE = {"I;12": 4095}
"""Value of white by packing, where it is not that of 16 bits."""


class PictureError(Exception):
    """A single picture cannot be used; the message is the reason that reports show."""


@dataclass(frozen=True)
class Decoded:
    """A picture as its file has it, in the orientation that was asked for.

    Attributes:
        name: of the file, for messages.
        image: as Pillow has it: colours cut to 8 bits, grey values of 1 to 4 bits spread to 8.
        deep: the colours uncut, uint16 [H, W, C], where they have 16 bits; C is 2 for grey with
            alpha, else the number of the mode's letters.
        packing: Pillow's name of how the pixels lie in the file; empty where it has none.
        white_is_zero: a TIFF whose grey values count from white to black.
        lossy: a JPEG, whose values are near those that were meant.
        pages: whether the file holds further pictures that stand beside this one.
    """

    name: str
    image: Image.Image
    deep: NDArray[np.uint16] | None
    packing: str
    white_is_zero: bool
    lossy: bool
    pages: bool

    def numbers(self) -> tuple[str, NDArray[Any]]:
        """Give the numbers as stored, and their mode: [H, W], or [H, W, C] of colours.

        The mode is Pillow's, with ``;16`` for colours of 16 bits. An alpha that hides nothing is
        left out.
        """
        mode, values = self.image.mode, self._stored()
        if self.deep is not None:
            mode = "LA;16" if values.shape[2] == 2 else f"{mode};16"
        opaque = _OPAQUE.get(mode)
        if opaque is None or (values[..., -1] != np.iinfo(values.dtype).max).any():
            return mode, values
        return opaque, values[..., 0] if values.shape[2] == 2 else values[..., :-1]

    def _stored(self) -> NDArray[Any]:
        """Undo what Pillow does to grey values: spread 1 to 4 bits over 0 to 255, and invert."""
        if self.deep is not None:
            return self.deep
        values = np.array(self.image)
        if self.image.mode == "1":
            return (values ^ self._inverted).astype(np.uint8)
        if self.image.mode == "L":
            step = self._step
            values = values if step == 1 else values // step
            return 255 // step - values if self._inverted else values
        return values

    def colors(self) -> Image.Image:
        """Give the colours that a viewer shows: of mode L, RGB, or RGBA where some are transparent.

        Raises:
            PictureError: values or colours that have no agreed meaning as a picture.
        """
        with reading(self.name):
            image = self._eight_bits()
            if image.mode == "LAB":
                raise PictureError(f"{self.name} is in CIE LAB colours: convert it to RGB")
            if image.has_transparency_data:
                # Pillow turns La, which is LA times its alpha, into LA only
                image = image.convert("LA") if image.mode == "La" else image
                return image.convert("RGBA")
            if image.mode == "1":
                return image.convert("L")
            return image if image.mode in ("L", "RGB") else image.convert("RGB")

    @property
    def _step(self) -> int:
        """What Pillow multiplies the values of a grey picture by."""
        return {"L;2": 85, "L;4": 17}.get(self.packing[:3], 1)

    @property
    def _inverted(self) -> bool:
        return self.white_is_zero and "I" in self.packing

    def _eight_bits(self) -> Image.Image:
        """Scale what is deeper than 8 bits, and make one colour that is transparent an alpha."""
        key = self.image.info.get("transparency")
        if self.deep is not None:
            mode = "LA" if self.deep.shape[2] == 2 else self.image.mode
            values = _rounded(self.deep, 257)
            clear = (self.deep == key).all(-1) if isinstance(key, tuple) else None
        elif self.image.mode in (*GREY_DEEP, "F"):
            mode, stored = "L", np.asarray(self.image)
            levels = self._float_levels if self.image.mode == "F" else self._levels
            values = 255 - levels(stored) if self.white_is_zero else levels(stored)
            clear = stored == key if isinstance(key, int) else None
        elif isinstance(key, int) and self._step > 1:
            image = self.image.copy()
            image.info["transparency"] = key * self._step
            return image
        else:
            return self.image
        image = Image.frombytes(mode, self.image.size, values.tobytes())
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
        return image

    def _float_levels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        if not np.isfinite(values).all():
            raise PictureError(f"{self.name} holds values that are not finite")
        levels = np.rint(values * 255)
        if levels.min() < 0 or levels.max() > 255:
            raise PictureError(
                f"{self.name} holds floats from {values.min():g} to {values.max():g}: a picture"
                " of floats goes from 0 (black) to 1 (white); scale it, or save 8 or 16 bits"
            )
        return levels.astype(np.uint8)

    def _levels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise PictureError(
                f"{self.name} holds grey values from {low} to {high}: of more than 8 bits, they go"
                " from 0 (black) to 65535 (white); scale it, or save 8 or 16 bits"
            )
        white = _WHITE.get(self.packing, 65535)
        if 0 < high < 256 and white == 65535 and not self.white_is_zero:
            raise PictureError(
                f"{self.name} holds 16-bit grey values up to {high}, and would be black, for 65535"
                " is white: save it with 8 bits, or scale it"
            )
        return _rounded(values.astype(np.uint32) * 255, white)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with one file into a :class:`PictureError` that names it."""
    try:
        yield
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"no file '{shown(error.filename or name)}'") from None
    except Image.UnidentifiedImageError:
        raise PictureError(
            f"{name} is not a picture, is damaged, or of a kind that is not read (such as TIFF of"
            " RGB floats): save it as JPEG or PNG"
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"{name} has too many pixels: at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} are read"
        ) from None
    except MemoryError:
        raise PictureError(f"{name} does not fit into memory") from None
    # Pillow and numpy are known to raise almost anything on hostile bytes.
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        why = " ".join(shown(why).split())
        raise PictureError(
            f"{name} cannot be read, it is cut short or damaged: {why or type(error).__name__}"
        ) from None


def decode(file: Path | BytesIO, *, upright: bool, name: str = "") -> Decoded:
    """Decode the first picture of a file.

    Args:
        file: on disk or in memory.
        upright: turn it as its EXIF orientation says; else it is as stored, in every format.
        name: for messages, where the file has none.

    Raises:
        PictureError: missing, cut short, no picture, or of a kind that is not read.
    """
    name = shown(file.name) if isinstance(file, Path) else name
    with reading(name):
        if not isinstance(file, Path):
            return _decode(file, upright, name)
        refuse_special(file)
        # A stream: Pillow maps the pixels of named files into memory, and those of turned TIFFs
        # wrongly.
        with file.open("rb") as stream:
            return _decode(stream, upright, name)


def _decode(stream: IO[bytes], upright: bool, name: str) -> Decoded:
    with Image.open(stream, formats=_formats()) as image:
        packing = _packing(image)
        tags = getattr(image, "tag_v2", {})
        if tags.get(_PLANES) == 2 and max(np.atleast_1d(tags.get(_BITS, 8))) > 8:
            raise PictureError(f"{name} keeps its 16-bit colours in planes: save them interleaved")
        if image.format == "BMP" and image.mode == "1" and _bits_of_bmp(stream) > 1:
            raise PictureError(f"{name} is a BMP with a palette of black and white: save a PNG")
        pages = image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False)
        return Decoded(
            name=name,
            image=_with_palette(_load(image, upright), tags.get(_COLORS, ())),
            deep=_deep(stream, packing, upright),
            packing=packing,
            white_is_zero=tags.get(_MEANING) == 0,
            lossy=image.format in ("JPEG", "MPO"),
            pages=pages,
        )


def refuse_special(path: Path) -> None:
    """Refuse what is no plain file: a folder; a pipe, which would be waited for; a device.

    Raises:
        PictureError: it is none.
        OSError: it is missing or cannot be reached.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise PictureError(f"{shown(path.name)} is not a file")


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _bits_of_bmp(stream: IO[bytes]) -> int:
    """Read the bits of a pixel. Pillow takes any two grey colours for those of 1 bit."""
    place = stream.tell()
    stream.seek(14)
    size, short, bits = struct.unpack("<I6xH2xH", stream.read(16))  # heads of two versions
    stream.seek(place)
    return short if size == 12 else bits


def _packing(image: Any) -> str:
    if not image.tile:
        return ""
    args = image.tile[0].args
    args = args if isinstance(args, str) else next(iter(args or [""]))
    return args if isinstance(args, str) else ""


def _load(image: Any, upright: bool) -> Image.Image:
    tiff = image.format == "TIFF"
    orientation = _orientation(image) if upright or tiff else 1
    image.load()
    # Pillow turns TIFFs by itself.
    turns = (_TURNS if upright else {}) if not tiff else ({} if upright else _TURNS_BACK)
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)


def _with_palette(image: Image.Image, colors: Sequence[int]) -> Image.Image:
    """Mend the palette of a TIFF whose colours have 8 bits in the place of 16."""
    if colors and 0 < max(colors) < 256:
        image.putpalette(np.reshape(colors, (3, -1)).T.astype(np.uint8).tobytes())
    return image


def _orientation(image: Any) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(ExifTags.Base.Orientation, 1)
    # Pillow is known to warn of damaged EXIF, and to raise almost anything; it says nothing then.
    except Exception:
        return 1


def _deep(file: IO[bytes], packing: str, upright: bool) -> NDArray[np.uint16] | None:
    """Read colours of 16 bits, of which Pillow gives the upper 8: decode both halves.

    Pillow takes the first or the second byte of each number by the byte order that the packing
    names; the other order gives the other half.
    """
    if packing == "LA;16B":  # of this, there is no other order; as if they were 4 colours of 8 bits
        halves = np.asarray(_unpacked(file, "RGBA", upright))
        return _joined(halves[..., 0::2], halves[..., 1::2])
    colors, sixteen, order = packing.partition(";16")
    if not sixteen or colors not in _COLORED or order not in _OTHER_HALF:
        return None
    other = f"{colors};16{_OTHER_HALF[order]}"
    return _joined(*(np.asarray(_unpacked(file, each, upright)) for each in (packing, other)))


def _joined(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint16]:
    joined = upper.astype(np.uint16)
    joined *= 256
    joined += lower
    return joined


def _unpacked(file: IO[bytes], packing: str, upright: bool) -> Image.Image:
    with Image.open(file, formats=_formats()) as image:
        for number, tile in enumerate(image.tile):
            args = (packing, *tile.args[1:]) if isinstance(tile.args, tuple) else packing
            image.tile[number] = tile._replace(args=args)
        return _load(image, upright)


def _rounded(values: NDArray[Any], step: int) -> NDArray[np.uint8]:
    """Divide numbers of at least 0 and round to the nearest."""
    return ((values.astype(np.uint32) + step // 2) // step).astype(np.uint8)
