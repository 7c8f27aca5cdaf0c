"""What becomes of pictures of every kind, format by format: the table of docs/pictures.md."""

import struct
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from picture_kinds import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    plain_tiff,
    write_bmp4,
    write_png,
)
from PIL import Image

from mmdiff_video.datasets.picture_files import PictureError, read_rgb

DOCS = Path(__file__).parents[2] / "docs" / "pictures.md"
FORMATS = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WebP": "webp", "BMP": "bmp"}
DRAWS = np.random.default_rng(0)

RAMP = np.arange(48).reshape(6, 8)
COLORS = DRAWS.integers(0, 256, (6, 8, 3), dtype=np.uint8)
DEEP = DRAWS.integers(0, 65536, (6, 8, 4), dtype=np.uint16)
TABLE = DRAWS.integers(0, 256, (256, 3), dtype=np.uint8)
HOLES = (RAMP % 2 * 255).astype(np.uint8)  # of alpha: every second pixel
FLAT = np.full((16, 16, 3), (200, 90, 30), np.uint8)  # what JPEG keeps


class Case(NamedTuple):
    """A way to write a kind in a format; what is read, [H, W] or [H, W, 3], or why it is not."""

    write: Callable[[Path], object]
    want: np.ndarray | str
    off: float = 0.5  # levels


def pil(values, mode=None, **options) -> Callable[[Path], object]:
    image = Image.frombytes(mode, values.shape[1::-1], values.tobytes()) if mode else values
    image = image if mode else Image.fromarray(values)
    if mode == "P":
        image.putpalette(TABLE.tobytes())
    return lambda path: image.save(path, **options)


def tiff(values, meaning, **options) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, values, photometric=meaning, **options)


def png(values, bits, kind, *chunks) -> Callable[[Path], object]:
    return lambda path: write_png(path, values, bits, kind, *chunks)


def several(**options) -> Callable[[Path], object]:
    first, second = Image.fromarray(COLORS), Image.fromarray(255 - COLORS)
    return lambda path: first.save(path, save_all=True, append_images=[second], **options)


def painted(values: np.ndarray, bits: int, alpha: bytes = b"") -> Callable[[Path], object]:
    chunks = [(b"PLTE", TABLE[: 2**bits].tobytes()), *([(b"tRNS", alpha)] if alpha else [])]
    return png(values, bits, PALETTE, *chunks)


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    values = values if values.ndim == 3 else values[..., None]
    share = alpha[..., None] / 255
    return values * share + 255 * (1 - share)


def spread(bits: int) -> np.ndarray:
    return RAMP % 2**bits * (255 // (2**bits - 1))


def transparent_grey(bits: int) -> Case:
    hidden = over_white(spread(bits), np.where(RAMP % 2**bits == 1, 0, 255))
    return Case(png(RAMP % 2**bits, bits, GREY, (b"tRNS", struct.pack(">H", 1))), hidden)


GREY16 = RAMP * 1365
FLOATS = (RAMP / 47).astype(np.float32)
KEY = DEEP[2, 3, :3]
HALF = np.full((6, 8), 128, np.uint8)
CMYK = DRAWS.integers(0, 256, (6, 8, 4), dtype=np.uint8)
INKS = np.full((16, 16, 4), (10, 120, 200, 40), np.uint8)
TWELVE = plain_tiff(
    {256: 8, 257: 6, 258: 12, 262: 1, 277: 1, 278: 6},
    b"".join(struct.pack(">I", int(a) << 12 | int(b))[1:] for a, b in (RAMP * 85).reshape(-1, 2)),
)


def inked(values: np.ndarray, most: float) -> np.ndarray:
    ink = values / most
    return 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


KINDS: dict[str, tuple[str, dict[str, list[Case]]]] = {
    "RGB of 8 bits": (
        "its colours",
        {
            "JPEG": [Case(pil(FLAT, quality=95), FLAT, 3)],
            "PNG": [Case(pil(COLORS), COLORS)],
            "TIFF": [
                Case(pil(COLORS), COLORS),
                Case(pil(COLORS, compression="tiff_lzw"), COLORS),
                Case(tiff(np.moveaxis(COLORS, 2, 0), "rgb", planarconfig="separate"), COLORS),
            ],
            "WebP": [Case(pil(COLORS, lossless=True), COLORS)],
            "BMP": [Case(pil(COLORS), COLORS)],
        },
    ),
    "grey of 8 bits": (
        "as RGB",
        {
            "JPEG": [Case(pil(FLAT[..., 0], quality=95), FLAT[..., 0], 3)],
            **{f: [Case(pil(RAMP.astype(np.uint8)), RAMP)] for f in ("PNG", "TIFF", "BMP")},
        },
    ),
    "grey of 1, 2 or 4 bits": (
        "spread over 0 to 255",
        {
            "PNG": [Case(png(RAMP % 2**n, n, GREY), spread(n)) for n in (1, 2, 4)],
            **{f: [Case(pil(RAMP % 2 == 1), spread(1))] for f in ("TIFF", "BMP")},
        },
    ),
    "palette": (
        "its colours",
        {
            "PNG": [Case(painted(RAMP % 2**n, n), TABLE[RAMP % 2**n]) for n in (1, 2, 4, 8)],
            "TIFF": [
                Case(tiff(RAMP.astype("u1"), "palette", colormap=table), TABLE[RAMP])
                for table in (TABLE.T.astype("u2") * 257, TABLE.T.astype("u2"))
            ],
            "BMP": [
                Case(lambda p: write_bmp4(p, RAMP % 16, TABLE[:16]), TABLE[RAMP % 16]),
                Case(pil(RAMP.astype("u1"), "P"), TABLE[RAMP]),
            ],
        },
    ),
    "alpha: RGB, grey or palette with it": (
        "laid over white",
        {
            "PNG": [
                Case(pil(np.dstack([COLORS, HALF])), over_white(COLORS, HALF), 1),
                Case(pil(np.dstack([COLORS, HOLES])), over_white(COLORS, HOLES)),
                Case(pil(np.dstack([RAMP.astype("u1"), HOLES]), "LA"), over_white(RAMP, HOLES)),
                Case(
                    painted(RAMP % 4, 2, b"\0\xff\0"),
                    over_white(TABLE[RAMP % 4], HOLES | (RAMP % 4 == 3) * 255),
                ),
            ],
            "TIFF": [
                Case(pil(np.dstack([COLORS, HOLES])), over_white(COLORS, HOLES)),
                Case(
                    tiff(np.dstack([COLORS // 2, HALF]), "rgb", extrasamples=["assocalpha"]),
                    over_white(COLORS // 2 * (255 / 128), HALF),
                    1.5,
                ),
            ],
            "WebP": [
                Case(
                    pil(np.dstack([COLORS, HOLES]), lossless=True, exact=True),
                    over_white(COLORS, HOLES),
                )
            ],
        },
    ),
    "32 bits with a fourth channel": (
        "its colours alone",
        {"BMP": [Case(pil(np.dstack([COLORS, HALF])), COLORS)]},
    ),
    "one colour that is transparent": (
        "laid over white",
        {
            "PNG": [
                *map(transparent_grey, (1, 2, 4)),
                Case(
                    png(GREY16, 16, GREY, (b"tRNS", struct.pack(">H", 1365))),
                    over_white(GREY16 / 257, np.where(RAMP == 1, 0, 255)),
                ),
                Case(
                    png(DEEP[..., :3], 16, RGB, (b"tRNS", struct.pack(">HHH", *KEY))),
                    over_white(
                        DEEP[..., :3] / 257, np.where((DEEP[..., :3] == KEY).all(2), 0, 255)
                    ),
                ),
            ]
        },
    ),
    "RGB or RGBA of 16 bits": (
        "scaled and rounded",
        {
            "PNG": [
                Case(png(DEEP[..., :3], 16, RGB), DEEP[..., :3] / 257),
                Case(
                    png(DEEP | [0, 0, 0, 65535], 16, RGBA),
                    DEEP[..., :3] / 257,
                ),
                Case(
                    png(np.dstack([DEEP[..., :3], HOLES * np.uint16(257)]), 16, RGBA),
                    over_white(DEEP[..., :3] / 257, HOLES),
                ),
            ],
            "TIFF": [
                Case(tiff(DEEP[..., :3], "rgb", byteorder=order, **options), DEEP[..., :3] / 257)
                for order, options in product(
                    "<>", ({}, {"compression": "deflate"}, {"tile": (16, 16)})
                )
            ],
        },
    ),
    "grey of 16 bits, also with alpha": (
        "scaled and rounded",
        {
            "PNG": [
                Case(png(GREY16, 16, GREY), GREY16 / 257),
                Case(
                    png(np.dstack([GREY16, HOLES * np.uint16(257)]), 16, GREY_ALPHA),
                    over_white(GREY16 / 257, HOLES),
                ),
            ],
            "TIFF": [
                Case(tiff(GREY16.astype("u2"), "minisblack", byteorder=b), GREY16 / 257)
                for b in "<>"
            ],
        },
    ),
    "grey of 12 bits": (
        "scaled and rounded",
        {"TIFF": [Case(lambda path: path.write_bytes(TWELVE), RAMP * 85 / 4095 * 255)]},
    ),
    "16 bits, no value above 255": (
        "refused",
        {
            "PNG": [Case(png(RAMP, 16, GREY), "up to 47, and would be black")],
            "TIFF": [Case(tiff(RAMP.astype("u2"), "minisblack"), "would be black")],
        },
    ),
    "16-bit colours in planes": (
        "refused",
        {
            "TIFF": [
                Case(
                    tiff(np.moveaxis(DEEP, 2, 0)[:3], "rgb", planarconfig="separate", **options),
                    "planes",
                )
                for options in ({}, {"compression": "deflate"})
            ]
        },
    ),
    "whole numbers of 32 bits, or signed, from 0 to 65535": (
        "scaled and rounded",
        {
            "TIFF": [
                Case(tiff((GREY16 // 2).astype(kind), "minisblack"), GREY16 // 2 / 257)
                for kind in ("i2", "i4", "u4")
            ]
        },
    ),
    "the same beyond": (
        "refused",
        {
            "TIFF": [
                Case(tiff((GREY16 + off).astype("i4"), "minisblack"), f"from {off} to")
                for off in (-1, 9000)
            ]
        },
    ),
    "floats of 32 bits from 0 to 1": (
        "scaled and rounded",
        {
            "TIFF": [
                Case(tiff(FLOATS, "minisblack", compression=c), FLOATS * 255)
                for c in (None, "deflate")
            ]
        },
    ),
    "the same beyond, infinite or not a number": (
        "refused",
        {
            "TIFF": [
                Case(tiff(values.astype("f4"), "minisblack"), reason)
                for values, reason in (
                    (FLOATS * 255, "floats from 0 to 255"),
                    (FLOATS * 65535, "floats from 0 to 65535"),
                    (FLOATS - 0.5, "floats from -0.5"),
                    (np.where(RAMP == 5, np.nan, FLOATS), "not finite"),
                    (np.where(RAMP == 5, np.inf, FLOATS), "not finite"),
                )
            ]
        },
    ),
    "floats of 16 or 64 bits, RGB floats": (
        "refused",
        {
            "TIFF": [
                Case(tiff(FLOATS.astype("f2"), "minisblack"), "not a picture"),
                Case(tiff(FLOATS.astype("f8"), "minisblack"), "not a picture"),
                Case(tiff(np.dstack([FLOATS] * 3), "rgb"), "not a picture"),
            ]
        },
    ),
    "CMYK of 8 or 16 bits": (
        "by the plain formula, without its profile",
        {
            "JPEG": [Case(pil(INKS, "CMYK", quality=95), inked(INKS, 255), 4)],
            "TIFF": [
                Case(pil(CMYK, "CMYK"), inked(CMYK, 255), 1.5),
                Case(tiff(DEEP, "separated"), inked(DEEP, 65535), 2),
            ],
        },
    ),
    "YCbCr": (
        "its colours",
        {
            "JPEG": [Case(pil(FLAT, quality=95, subsampling=0), FLAT, 3)],
            "TIFF": [
                Case(
                    lambda p: Image.fromarray(COLORS).convert("YCbCr").save(p),
                    COLORS,
                    3,
                )
            ],
        },
    ),
    "CIE LAB": ("refused", {"TIFF": [Case(tiff(COLORS, "cielab"), "LAB colours")]}),
    "grey that counts from white": (
        "turned round",
        {
            "TIFF": [
                Case(tiff(RAMP.astype("u1"), "miniswhite"), 255 - RAMP),
                Case(tiff(RAMP % 2 == 1, "miniswhite"), 255 - spread(1)),
                Case(tiff(GREY16.astype("u2"), "miniswhite"), 255 - GREY16 / 257),
                Case(tiff(FLOATS, "miniswhite"), 255 - FLOATS * 255),
            ]
        },
    ),
    "animation, or several pages": (
        "the first picture",
        {
            "PNG": [Case(several(), COLORS)],
            "TIFF": [Case(several(), COLORS)],
            "WebP": [Case(several(lossless=True), COLORS)],
        },
    ),
}


def cases():
    for kind, (_, formats) in KINDS.items():
        for name, each in formats.items():
            for number, case in enumerate(each):
                yield pytest.param(FORMATS[name], case, id=f"{kind}-{name}-{number}")


def rows(header: list[str], table: list[list[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *table)]


@pytest.mark.parametrize(("suffix", "case"), cases())
def test_each_kind_in_each_format(tmp_path, suffix, case):
    path = tmp_path / f"a.{suffix}"
    case.write(path)
    if isinstance(case.want, str):
        with pytest.raises(PictureError, match=case.want) as caught:
            read_rgb(path)
        assert f"a.{suffix}" in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    want = case.want if case.want.ndim == 3 else case.want[..., None]
    found = read_rgb(path)
    assert found.dtype == np.uint8
    assert found.shape == (*want.shape[:2], 3)
    assert np.abs(found - want.astype(float)).max() <= case.off + 1e-6


def test_the_docs_have_this_table():
    table = [
        [kind, *(outcome if name in formats else "-" for name in FORMATS)]
        for kind, (outcome, formats) in KINDS.items()
    ]
    text = DOCS.read_text(encoding="utf-8")
    assert "\n".join(rows(["pictures", *FORMATS], table)) in text
