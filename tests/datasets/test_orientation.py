"""Which way up a picture is read: one rule for every format."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from picture_kinds import exif
from PIL import Image

from mmdiff_video.datasets.picture_files import read_rgb

DRAWS = np.random.default_rng(0)
RAMP = np.arange(48).reshape(6, 8)
COLORS = DRAWS.integers(0, 256, (6, 8, 3), dtype=np.uint8)
DEEP = DRAWS.integers(0, 65536, (6, 8, 4), dtype=np.uint16)


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
"""How a picture is shown, by its orientation."""

CORNER = np.zeros((32, 48, 3), np.uint8)
CORNER[:16, :16] = 255
CORNER[16:, :16] = 120


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "F"])
def test_orientation_of_plain_tiffs(tmp_path, mode):
    grey = CORNER[..., 0].astype({"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8))
    grey = grey * {"I;16": np.uint16(257), "F": np.float32(1 / 255)}.get(mode, np.uint8(1))
    image = Image.fromarray(grey) if mode in ("I;16", "F") else Image.fromarray(grey).convert(mode)
    for orientation, turn in TURNS.items():
        image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
        assert np.array_equal(read_rgb(tmp_path / "a.tif"), CORNER)
        assert np.array_equal(read_rgb(tmp_path / "a.tif", upright=True), turn(CORNER))


def oriented(path: Path, orientation: int) -> Path:
    image = Image.fromarray(CORNER)
    options = {
        ".jpg": {"exif": b"Exif\0\0" + exif(orientation), "quality": 95},
        ".png": {"exif": exif(orientation)},
        ".webp": {"exif": exif(orientation), "lossless": True},
        ".tif": {"tiffinfo": {274: orientation}},
    }
    image.save(path, **options[path.suffix])
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_has_one_rule_for_every_format(tmp_path, suffix):
    for orientation, turn in TURNS.items():
        path = oriented(tmp_path / f"{orientation}.{suffix}", orientation)
        stored, upright = read_rgb(path), read_rgb(path, upright=True)
        assert stored.shape == CORNER.shape
        assert np.abs(stored.astype(int) - CORNER).max() < 6
        assert upright.shape == turn(CORNER).shape
        assert np.abs(upright.astype(int) - turn(CORNER)).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_and_compressed_tiffs_have_the_same_rule(tmp_path, orientation):
    deep = CORNER.astype(np.uint16) * 257
    tags = [(274, 3, 1, orientation, False)]
    for options in ({}, {"compression": "deflate"}):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, deep, photometric="rgb", extratags=tags, **options)
        assert np.array_equal(read_rgb(path), CORNER)
        assert np.array_equal(read_rgb(path, upright=True), TURNS[orientation](CORNER))


def damaged_exif() -> dict[str, tuple[str, dict]]:
    return {
        "no header": ("png", {"exif": b"\x00\x08\x00\x02\x01\x12\x00\x03" + b"\0" * 16}),
        "cut short": ("png", {"exif": exif(6)[:13]}),
        "a loop": ("png", {"exif": exif(6)[:-4] + b"\0\0\0\x08"}),
        "orientation 0": ("png", {"exif": exif(0)}),
        "orientation 9": ("jpg", {"exif": b"Exif\0\0" + exif(9)}),
        "nothing": ("jpg", {"exif": b"Exif\0\0"}),
        "noise": ("jpg", {"exif": b"Exif\0\0" + bytes(range(200))}),
        "noise in WebP": ("webp", {"exif": bytes(range(200)), "lossless": True}),
        "many values": (
            "png",
            {"exif": exif(6)[:18] + struct.pack(">II", 2, 0x00060006) + exif(6)[26:]},
        ),
    }


@pytest.mark.parametrize("name", damaged_exif())
def test_a_damaged_orientation_says_nothing(tmp_path, name):
    suffix, options = damaged_exif()[name]
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(CORNER).save(path, **options)
    found = read_rgb(path, upright=True)
    turned = TURNS[6](CORNER)  # "a loop" and "many values" still say 6
    assert found.shape in (CORNER.shape, turned.shape)
    assert np.array_equal(read_rgb(path), read_rgb(path))
    if name not in ("a loop", "many values"):
        assert np.abs(found.astype(int) - CORNER).max() < 6
