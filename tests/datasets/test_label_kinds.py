"""What becomes of labels of every kind, task by task: the second table of docs/pictures.md."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from picture_kinds import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, write_png
from PIL import Image

from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.labelled import Classes, voc_colors
from mmdiff_video.tasks.depth import read_depth
from mmdiff_video.tasks.normals import read_normals
from mmdiff_video.tasks.saliency import read_mask
from mmdiff_video.tasks.seg import read_classes

DOCS = Path(__file__).parents[2] / "docs" / "pictures.md"
CLASSES = Classes(tuple("abcd"), ((9, 9, 9), (255, 0, 0), (0, 255, 0), (0, 0, 255)))
UNPAINTED = Classes(tuple("abcd"), voc_colors(4), colors_are_known=False)
READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "class ids": lambda path: read_classes(path, CLASSES),
    "depth": lambda path: read_depth(path, 0.001),
    "masks": read_mask,
    "normals": read_normals,
}

IDS = np.zeros((6, 8), np.uint8)
IDS[1:4, 2:7] = 1
IDS[2, 3] = 3
SHAPE = IDS > 0
WHITE = SHAPE * np.uint8(255)
PAINTED = np.array(CLASSES.colors, np.uint8)[IDS]
STEPS = 1000 + IDS.astype(np.uint16) * 500
METRES = (STEPS / 1000).astype(np.float32)
BOTH = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
FACING = np.zeros((6, 8, 3))
FACING[..., 2] = -1
EIGHT = ((FACING + 1) / 2 * 255).round().astype(np.uint8)
CUT_OUT = np.dstack([np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), WHITE])

REFUSED = "refused"


class Kind(NamedTuple):
    """A kind of label: its files, and for each task what is read, or why it is not.

    Attributes:
        files: name of the file, and what writes it.
        outcomes: task -> words for the docs, and the values or the reason. A task that is not
            named refuses the kind. None: another row says it.
    """

    files: list[tuple[str, Callable[[Path], object]]]
    outcomes: dict[str, tuple[str, np.ndarray | str | None]]


def pil(values, mode=None, palette=None, **options) -> Callable[[Path], object]:
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(palette.tobytes())
    return lambda path: image.save(path, **options)


def png(values, bits, kind=GREY, *chunks) -> Callable[[Path], object]:
    return lambda path: write_png(path, values, bits, kind, *chunks)


def tiff(values, meaning="minisblack", **options) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, values, photometric=meaning, **options)


def array(values) -> Callable[[Path], object]:
    return lambda path: np.save(path, values)


def vocs(count: int) -> bytes:
    return np.array(voc_colors(count), np.uint8).tobytes()


AS_IDS = {"class ids": ("ids as stored", IDS), "masks": ("see below", None)}
FLAT_GREY = [*[(f"{n}.png", png(IDS, n)) for n in (2, 4, 8)], ("a.bmp", pil(IDS))]
TURNED = [
    ("a.tif", tiff(IDS, "miniswhite")),
    ("a.tif", pil(IDS, tiffinfo={274: 6})),
    ("b.tif", tiff(IDS, "miniswhite", compression="deflate")),
]
KINDS: dict[str, Kind] = {
    "grey of 2, 4 or 8 bits, with small values": Kind(FLAT_GREY, AS_IDS),
    "grey TIFF that counts from white, or has an orientation": Kind(TURNED, AS_IDS),
    "1 bit": Kind(
        [("a.png", png(SHAPE, 1)), ("a.tif", pil(SHAPE)), ("a.bmp", pil(SHAPE))],
        {
            "class ids": ("ids as stored", SHAPE),
            "masks": ("white is salient", SHAPE),
        },
    ),
    "grey of 8 bits, black and white": Kind(
        [("a.png", pil(WHITE)), ("a.webp", pil(WHITE, lossless=True))],
        {"class ids": ("see above", None), "masks": ("above 128 is salient", SHAPE)},
    ),
    "palette, with small values": Kind(
        [
            *[(f"{n}.png", png(IDS, n, PALETTE, (b"PLTE", vocs(2**n)))) for n in (2, 4, 8)],
            ("a.tif", tiff(IDS, "palette", colormap=np.zeros((3, 256), np.uint16))),
            (
                "transparent.png",
                png(IDS, 2, PALETTE, (b"PLTE", vocs(4)), (b"tRNS", b"\0\xff\xff")),
            ),
        ],
        {"class ids": ("ids as stored", IDS), "masks": ("see below", None)},
    ),
    "palette in the colours of the classes, in their order": Kind(
        [("a.png", png(IDS, 2, PALETTE, (b"PLTE", bytes(sum(CLASSES.colors, ())))))],
        {"class ids": ("ids as stored", IDS)},
    ),
    "the same in another order": Kind(
        [("a.png", png(3 - IDS, 2, PALETTE, (b"PLTE", bytes(sum(CLASSES.colors[::-1], ())))))],
        {"class ids": (REFUSED, "in the colour of class")},
    ),
    "palette of black and white": Kind(
        [
            ("a.png", png(SHAPE, 1, PALETTE, (b"PLTE", BOTH.tobytes()))),
            ("b.png", png(~SHAPE, 1, PALETTE, (b"PLTE", BOTH[::-1].tobytes()))),
        ],
        {"class ids": ("ids as stored", None), "masks": ("by its colours", SHAPE)},
    ),
    "RGB in the colours of the classes": Kind(
        [
            ("a.png", pil(PAINTED)),
            ("opaque.png", pil(np.dstack([PAINTED, np.full_like(IDS, 255)]))),
            ("a.webp", pil(PAINTED, lossless=True)),
        ],
        {"class ids": ("by the colours, if the data set states them", IDS)},
    ),
    "RGB with another colour": Kind(
        [("a.png", pil(np.where(IDS[..., None] == 3, 7, PAINTED).astype(np.uint8)))],
        {"class ids": (REFUSED, "colour \\[7, 7, 7\\] at 1 pixels")},
    ),
    "grey of 16 bits": Kind(
        [
            ("a.png", pil(STEPS)),
            ("opaque.png", png(np.dstack([STEPS, STEPS | 65535]), 16, GREY_ALPHA)),
            ("a.tif", tiff(STEPS)),
            ("b.tif", tiff(STEPS.astype(np.int32), byteorder=">")),
        ],
        {"depth": ("steps of the card's unit", METRES), "masks": (REFUSED, "a mask holds 0 and")},
    ),
    "grey of 16 bits, with small values": Kind(
        [("a.png", pil(IDS.astype(np.uint16)))],
        {
            "class ids": ("ids as stored", IDS),
            "depth": ("steps of the card's unit", IDS / 1000),
            "masks": (REFUSED, "would be black"),
        },
    ),
    "grey of 16 bits, black and white": Kind(
        [("a.png", pil(WHITE * np.uint16(257)))],
        {
            "class ids": (REFUSED, "holds label 65535"),
            "depth": ("steps of the card's unit", WHITE * 0.257),
            "masks": ("above the middle is salient", SHAPE),
        },
    ),
    "TIFF of floats": Kind(
        [("a.tif", tiff(METRES)), ("b.tif", tiff(METRES, compression="deflate"))],
        {"depth": ("metres", METRES), "masks": ("0 to 1, above the middle is salient", None)},
    ),
    "array of floats [H, W]": Kind(
        [(f"{kind}.npy", array(METRES.astype(kind))) for kind in ("f2", "f4", "f8", ">f4")],
        {"depth": ("metres", METRES)},
    ),
    "array of whole numbers [H, W]": Kind(
        [(f"{kind}.npy", array(STEPS.astype(kind))) for kind in ("u2", "i4", "i8")],
        {"depth": ("steps of the card's unit", METRES)},
    ),
    "floats that are infinite, not a number or not above 0": Kind(
        [
            (name, write(np.where(SHAPE, np.float32(bad), METRES).astype(np.float32)))
            for bad in (np.nan, np.inf, -np.inf, -3, 0)
            for name, write in (("a.npy", array), ("a.tif", tiff))
        ],
        {"depth": ("unknown there", np.where(SHAPE, 0, METRES)), "masks": ("see above", None)},
    ),
    "array [H, W, 3] of floats": Kind(
        [(f"{kind}.npy", array(FACING.astype(kind))) for kind in ("f2", "f4", "f8")],
        {"normals": ("unit vectors", FACING)},
    ),
    "arrays of other shapes or kinds": Kind(
        [
            ("flags.npy", array(SHAPE)),
            ("complex.npy", array(METRES.astype(complex))),
            ("one.npy", array(METRES[0])),
            ("five.npy", array(METRES[None, None, :, :, None])),
            ("text.npy", array(np.array([["a", "b"]]))),
            ("objects.npy", lambda p: np.save(p, np.array([[{}]]), allow_pickle=True)),
        ],
        {},
    ),
    "RGB of 8 or 16 bits that holds unit vectors": Kind(
        [
            ("a.png", pil(EIGHT)),
            ("a.png", png(EIGHT * np.uint16(257), 16, RGB)),
            ("a.tif", tiff(EIGHT * np.uint16(257), "rgb", compression="deflate")),
        ],
        {"normals": ("unit vectors", FACING)},
    ),
    "RGB that holds others": Kind(
        [("a.png", pil(np.full((6, 8, 3), 255, np.uint8)))],
        {"normals": (REFUSED, "vector of length 1.7"), "masks": ("by its colours", SHAPE | True)},
    ),
    "JPEG, black and white": Kind(
        [
            ("a.jpg", pil(np.kron(WHITE, np.ones((16, 16), "u1")), quality=80)),
            ("a.jpg", pil(np.kron(np.dstack([WHITE] * 3), np.ones((16, 16, 1), "u1")))),
        ],
        {
            "masks": ("above 128 is salient", np.kron(SHAPE, np.ones((16, 16), bool))),
            "class ids": (REFUSED, "JPEG"),
            "normals": (REFUSED, "JPEG"),
        },
    ),
    "white or black all over, the shape in alpha": Kind(
        [
            (f"{mode}{level}.{suffix}", pil(np.dstack([np.full_like(IDS, level)] * n + [WHITE])))
            for level in (0, 255)
            for n, mode in ((1, "LA"), (3, "RGBA"))
            for suffix in ("png", "tif")
        ],
        {"masks": ("what is not transparent is salient", SHAPE)},
    ),
    "a photograph cut out by its alpha": Kind(
        [("a.png", pil(CUT_OUT)), ("a.png", png(CUT_OUT * np.uint16(257), 16, RGBA))],
        {"masks": ("what is not transparent is salient", SHAPE)},
    ),
    "black and white, and the same shape in alpha": Kind(
        [("a.png", pil(np.dstack([WHITE] * 3 + [WHITE])))],
        {"masks": ("what is not transparent is salient", SHAPE)},
    ),
    "black and white, and another shape in alpha": Kind(
        [
            ("a.png", pil(np.dstack([WHITE] * 3 + [np.flip(WHITE)]))),
            ("b.png", pil(np.dstack([WHITE, 255 - WHITE]))),
        ],
        {"masks": (REFUSED, "one shape in black and white and another")},
    ),
    "wholly transparent": Kind(
        [("a.png", pil(np.dstack([WHITE] * 3 + [WHITE * 0])))],
        {"masks": (REFUSED, "wholly transparent")},
    ),
    "in colours": Kind(
        [
            ("a.png", pil(np.dstack([WHITE, WHITE * 0, WHITE * 0]))),
            ("a.png", png(SHAPE, 1, PALETTE, (b"PLTE", b"\0\0\0\xff\0\0"))),
        ],
        {"class ids": ("see above", None), "masks": (REFUSED, "a mask is black, and white")},
    ),
    "largest value from 1 to 128": Kind(
        [("a.png", pil(SHAPE.astype("u1"))), ("b.png", pil(SHAPE * np.uint8(128)))],
        {"class ids": ("see above", None), "masks": (REFUSED, "a mask holds 0 and 255")},
    ),
    "several pages": Kind(
        [("a.tif", tiff(np.stack([IDS, IDS]))), ("b.tif", tiff(np.stack([METRES, METRES])))], {}
    ),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("task", READERS)
def test_each_kind_for_each_task(tmp_path, name, task):
    kind = KINDS[name]
    _, want = kind.outcomes.get(task, (REFUSED, "."))
    for file, write in kind.files:
        path = tmp_path / file
        write(path)
        if isinstance(want, np.ndarray):
            want = np.moveaxis(want, -1, 0) if want.ndim == 3 else want[None]
            found = READERS[task](path)
            assert found.shape == want.shape
            np.testing.assert_allclose(found, want, atol=0.01 if task == "normals" else 1e-3)
            want = want[0] if want.shape[0] == 1 else np.moveaxis(want, 0, -1)
        elif want is not None:
            with pytest.raises(PictureError, match=want) as caught:
                READERS[task](path)
            assert path.name in str(caught.value)


def test_the_docs_have_this_table():
    table = [
        [name, *(kind.outcomes.get(task, (REFUSED,))[0] for task in READERS)]
        for name, kind in KINDS.items()
    ]
    rows = [["labels", *READERS], ["---"] * 5, *table]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    assert text in DOCS.read_text(encoding="utf-8")


def test_colours_count_only_where_the_data_set_states_them(tmp_path):
    pil(PAINTED)(tmp_path / "a.png")
    with pytest.raises(PictureError, match=r"an RGB picture: labels are palette or grey"):
        read_classes(tmp_path / "a.png", UNPAINTED)
    twice = CLASSES._replace(colors=CLASSES.colors[:3] + CLASSES.colors[:1])
    with pytest.raises(PictureError, match="two classes have the same"):
        read_classes(tmp_path / "a.png", twice)


def test_black_and_vocs_cream_are_void_in_colours(tmp_path):
    painted = PAINTED.copy()
    painted[0, 0], painted[0, 1] = 0, (224, 224, 192)
    pil(painted)(tmp_path / "a.png")
    assert read_classes(tmp_path / "a.png", CLASSES)[0, 0, :3].tolist() == [255, 255, 0]
    black = CLASSES._replace(colors=((0, 0, 0), *CLASSES.colors[1:]))
    pil(np.where(PAINTED == 9, 0, PAINTED))(tmp_path / "b.png")
    assert np.array_equal(read_classes(tmp_path / "b.png", black)[0], IDS)
    pil(PAINTED * 0)(tmp_path / "c.png")
    with pytest.raises(PictureError, match="only void"):
        read_classes(tmp_path / "c.png", CLASSES)
