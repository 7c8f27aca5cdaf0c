"""Whatever is wrong with one picture or label is one sentence about it, and never a traceback."""

import os
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from picture_kinds import RGB, plain_tiff, write_png
from PIL import Image, ImageFile

from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.picture_files import PictureError, read_label, read_rgb

COLORS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def refused(path, *, reader=read_rgb) -> str:
    with pytest.raises(PictureError) as caught:
        reader(path)
    message = str(caught.value)
    assert shown(path.name) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
@pytest.mark.parametrize("share", [0, 0.1, 0.6])
def test_cut_short(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLORS).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path)
    refused(path, reader=read_label)


def bomb(kind: str, side: int) -> bytes:
    if kind == "bmp":
        info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
        return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + info
    return plain_tiff({256: side, 257: side, 258: 8, 262: 1, 278: side})


def test_bombs(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, COLORS[:1], 8, RGB, size=(50_000, 50_000))
    assert "too many pixels" in refused(path)
    for kind in ("bmp", "tif"):
        path = tmp_path / f"a.{kind}"
        path.write_bytes(bomb(kind, 50_000))
        assert "too many pixels" in refused(path)
    with pytest.raises(PictureError, match="image 3 of x has too many pixels"):
        read_rgb(BytesIO(bomb("bmp", 50_000)), name="image 3 of x")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_chunks_that_swell(tmp_path, kind):
    swollen = zlib.compress(b"a" * 2 * 2**20)
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0"}[kind]
    assert "too large" in refused(
        write_png(tmp_path / "a.png", COLORS, 8, RGB, (kind, head + swollen))
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError("deep"),
        OverflowError("large"),
        struct.error("short"),
        EOFError(),
        KeyError("mode"),
        AttributeError("x"),
        ZeroDivisionError(),
        RuntimeError("two\nlines"),
        UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises(tmp_path, monkeypatch, error):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLORS).save(path)

    def fail(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    refused(path)
    refused(path, reader=read_label)


def test_what_is_no_file(tmp_path):
    names = ("folder.jpg", "pipe.jpg", "dangling.jpg", "loop.jpg", "other.jpg", "missing.jpg")
    folder, pipe, dangling, loop, other, missing = (tmp_path / name for name in names)
    folder.mkdir()
    os.mkfifo(pipe)
    dangling.symlink_to("nowhere")
    loop.symlink_to("other.jpg")
    other.symlink_to("loop.jpg")
    for path in (folder, pipe):
        assert "not a file" in refused(path)
    assert "no file" in refused(dangling)
    assert "symbolic links" in refused(loop)
    assert "no file" in refused(missing)
    refused(tmp_path / ("a" * 300 + ".jpg"))
    refused(tmp_path / "a\0b.jpg")
    refused(tmp_path / "folder.jpg" / "inside.npy", reader=read_label)


def test_a_name_that_is_not_utf_8_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"stra\xdfe.png")
    path.write_text("no picture")
    with pytest.raises(PictureError) as caught:
        read_rgb(path)
    assert str(caught.value).encode("utf-8").startswith(rb"stra\udcdfe.png is not a picture")


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg/>",
        b"\x89HDF\r\n\x1a\n" + b"\0" * 99,
    ],
    ids=["PostScript", "SVG", "HDF5"],
)
def test_formats_that_need_other_programs_are_not_opened(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert "is not a picture" in refused(path)


def test_the_name_does_not_say_the_format(tmp_path):
    for kind in ("GIF", "WEBP", "TIFF"):
        path = tmp_path / f"{kind}.jpg"
        Image.fromarray(COLORS[..., 0]).save(
            path, kind, **({"lossless": True} if kind == "WEBP" else {})
        )
        assert np.array_equal(read_rgb(path)[..., 0], COLORS[..., 0])


def test_bitmaps_that_pillow_takes_for_those_of_1_bit(tmp_path):
    image = Image.fromarray(COLORS[..., 0] // 128)
    image.putpalette(b"\0\0\0\xff\xff\xff")
    image.save(tmp_path / "a.bmp")
    assert "palette of black and white" in refused(tmp_path / "a.bmp")
    Image.fromarray(COLORS[..., 0] > 127).save(tmp_path / "b.bmp")
    assert np.array_equal(read_rgb(tmp_path / "b.bmp")[..., 0] > 0, COLORS[..., 0] > 127)


def array_head(shape: str, kind: str = "<f8") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b"PK\x03\x04" + b"\0" * 99,
        array_head("(1000000, 1000000)"),
        array_head("(" * 3000),
        array_head("(-1, 3)"),
        array_head("(2, 2)", "|O") + b"\x80\x04." * 20,
        array_head("(0, 3)"),
    ],
    ids=["empty", "noise", "archive", "too large", "nested", "negative", "objects", "no pixel"],
)
def test_broken_arrays(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    refused(path, reader=read_label)
