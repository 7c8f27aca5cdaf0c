"""Picture files of every format that is read."""

import io
import random
import struct
import zlib
from functools import cache

import numpy as np
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes, cut_short
from numpy.typing import NDArray
from PIL import Image

from mmdiff_video.datasets.picture_files import PictureError, read_rgb

FORMATS = ("png", "jpeg", "tiff", "webp", "gif", "bmp")
_MODES = {
    "png": ("RGB", "L", "P", "RGBA", "LA", "1", "I;16"),
    "jpeg": ("RGB", "L", "CMYK"),
    "tiff": ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "F", "1", "LAB"),
    "webp": ("RGB", "RGBA"),
    "gif": ("P", "L"),
    "bmp": ("RGB", "L", "1", "P"),
}
_SIDES = (0, 1, 2, 65_535, 100_000, 2**31 - 1, 2**32 - 1)


@cache
def picture(kind: str, mode: str) -> bytes:
    """A good file of 20 x 12 pixels."""
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 20 * 12 * 3).reshape(12, 20, 3) + rng.normal(0, 9, (12, 20, 3))
    rgb = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray((np.arange(240).reshape(12, 20) * 270).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(np.linspace(0, 1, 240, dtype=np.float32).reshape(12, 20))
    elif mode == "LA":
        image = rgb.convert("L")
        image.putalpha(Image.linear_gradient("L").resize((20, 12)))
    elif mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(rgb, srgb, lab, outputMode="LAB")
        assert image is not None
    else:
        image = rgb.convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def break_png(rng: random.Random, data: bytes) -> bytes:
    """Break chunks of a PNG; their checksums are right again, mostly."""
    chunks = png_chunks(data)
    for _ in range(rng.randint(1, 2)):
        place = rng.randrange(len(chunks))
        name, content = chunks[place]
        match rng.randrange(7):
            case 0:
                del chunks[place]
                if not chunks:
                    return data[:8]
            case 1:
                chunks.insert(rng.randint(0, len(chunks)), chunks[place])
            case 2:
                chunks[place] = (
                    rng.choice((b"tEXt", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"eXIf")),
                    content,
                )
            case 3 | 4:
                chunks[0] = (b"IHDR", _odd_header(rng, chunks[0][1]))
            case 5:
                chunks.insert(1, (b"iCCP", b"x\0\0" + zlib.compress(rng.randbytes(30))))
            case _:
                chunks[place] = (name, break_bytes(rng, content, 1))
    wrong = rng.random() < 0.1
    return data[:8] + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content) ^ wrong)
        for name, content in chunks
    )


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Names and contents."""
    chunks, place = [], 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    return chunks


def _odd_header(rng: random.Random, header: bytes) -> bytes:
    if len(header) < 13:
        return header
    values = list(struct.unpack(">IIBBBBB", header[:13]))
    field = rng.randrange(7)
    values[field] = rng.choice(_SIDES) if field < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return struct.pack(">IIBBBBB", *values)


def break_picture(case: Case) -> tuple[bytes, NDArray[np.uint8] | None]:
    """Bytes of a broken picture; and what it shows, where it may only be that or refused."""
    rng = case.rng
    kind = rng.choice(FORMATS)
    mode = rng.choice(_MODES[kind])
    good = picture(kind, mode)
    case.note(f"a {kind} of mode {mode}")
    truth = None
    if rng.random() < 0.3 and mode not in ("F", "LAB"):
        data = cut_short(rng, good)
        truth = read_rgb(io.BytesIO(good), name="good")
        case.note(f"cut to {len(data)} of {len(good)} bytes")
    elif kind == "png" and rng.random() < 0.7:
        data = break_png(rng, good)
        case.note("with broken chunks:", [(name, len(c)) for name, c in png_chunks(good)])
    else:
        data = break_bytes(rng, good)
        case.note("with broken bytes")
    return data, truth


@target(cases=200)
def pictures(case: Case) -> None:
    """A broken picture; one that is cut short is never read as another one."""
    data, truth = break_picture(case)
    path = case.folder / f"picture.{case.rng.choice(('png', 'jpg', 'PNG', 'tif'))}"
    path.write_bytes(data)
    upright = case.rng.random() < 0.5
    with case.refusable(PictureError, naming=path.name):
        found = read_rgb(path, upright=upright)
        require(found.dtype == np.uint8, f"pixels of {found.dtype}")
        require(found.ndim == 3, f"a picture {found.shape}")
        require(found.shape[2] == 3, f"a picture {found.shape}")
        require(min(found.shape) > 0, f"a picture {found.shape}")
        if truth is not None:
            require(found.shape == truth.shape, f"{found.shape} instead of {truth.shape}")
            require(np.array_equal(found, truth), "a file that is cut short shows other pixels")


@target(cases=30)
def picture_modes(case: Case) -> None:
    """Good pictures of every mode are read."""
    kind = case.rng.choice(FORMATS)
    mode = case.rng.choice(_MODES[kind])
    case.note(f"a {kind} of mode {mode}")
    path = case.folder / f"picture.{kind}"
    path.write_bytes(picture(kind, mode))
    if mode in ("F", "LAB"):  # what such numbers mean as a picture is nobody's promise
        with case.refusable(PictureError, naming=path.name):
            require(read_rgb(path).shape == (12, 20, 3), "another size")
        return
    found = read_rgb(path)
    require(found.shape == (12, 20, 3), f"a picture {found.shape}")
    require(found.max() > 200, f"too dark: {found.max()}")
    # what is laid over white may be bright everywhere
    require(found.min() < 60 or mode in ("LA", "RGBA"), f"too bright: {found.min()}")
