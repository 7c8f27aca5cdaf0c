"""Label files of every task: what is decoded is what the task promises of its values."""

import io
import random
from typing import Any

import numpy as np
import torch
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes
from fuzz.targets.pictures import break_picture, break_png
from numpy.typing import NDArray
from PIL import Image

from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import Classes, voc_colors
from mmdiff_video.tasks import TASKS

_CLASSES = Classes(("wall", "floor", "chair"), voc_colors(3))


def _good(rng: random.Random, task: str) -> NDArray[Any]:
    """Values [C, 5, 7] as the task writes them."""
    chance = np.random.default_rng(rng.getrandbits(32))
    if task == "depth":
        return chance.integers(0, 9000, (1, 5, 7)).astype(np.float32) / 1000
    if task == "seg":
        return chance.choice(np.array([0, 1, 2, 255], np.uint8), (1, 5, 7))
    if task == "saliency":
        return chance.integers(0, 2, (1, 5, 7)).astype(np.float32)
    vectors = chance.normal(size=(3, 5, 7))
    return (vectors / np.linalg.norm(vectors, axis=0)).astype(np.float32)


def _odd_array(rng: random.Random) -> bytes:
    kinds: tuple[Any, ...] = ("f4", "f2", "f8", "i4", "u1", "c8", "?", "O", "S3", "M8[s]", ">f4")
    kind = rng.choice(kinds)
    shape = rng.choice(((5, 7, 3), (5, 7), (3, 5, 7), (), (0,), (0, 7, 3), (5, 7, 4), (1, 5, 7)))
    if kind == "O":
        values = np.empty(shape, object)
    else:
        values = np.ones(shape, "f8").astype("f8" if kind in ("S3", "M8[s]") else kind)
        if kind in ("S3", "M8[s]"):
            values = values.astype("i8").astype(kind)
    if values.dtype.kind == "f" and values.size:
        values = values / np.sqrt(3).astype(values.dtype)
        odd = (np.nan, np.inf, -np.inf, 0.0, 2.0, 1e-30, 1e30)
        with np.errstate(over="ignore"):
            values.reshape(-1)[rng.randrange(values.size)] = rng.choice(odd)
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def _odd_label(rng: random.Random, case: Case) -> bytes:
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr")
    mode, kind = rng.choice(modes), rng.choice(("png", "tiff"))
    top = {"1": 2, "I;16": 65536, "I": 70000, "F": 300}.get(mode, 256)
    values = np.array([rng.randrange(top) - (mode in "IF" and 50) for _ in range(35)])
    if mode in ("I", "I;16", "F"):
        dtype = {"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]
        values = values.clip(0) if mode == "I;16" else values
        pixels = values.reshape(5, 7).astype(dtype)
        if mode == "F" and rng.random() < 0.5:
            pixels[0, 0] = rng.choice((np.nan, np.inf, -np.inf, 1e30))
        image = Image.fromarray(pixels)
    else:
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8).reshape(5, 7)).convert(mode)
    file = io.BytesIO()
    try:
        image.save(file, kind)
    except OSError:  # the format has no such mode
        file = io.BytesIO()
        image.save(file, "tiff")
    case.note(f"mode {mode}")
    return file.getvalue()


def _require_sane(task: str, values: NDArray[Any]) -> None:
    """Assert what the task's labels promise, of the values and of the target made of them."""
    channels = 3 if task == "normals" else 1
    require(values.ndim == 3, f"values {values.shape}")
    require(values.shape[0] == channels, f"values {values.shape}")
    require(values.size > 0, f"values {values.shape}")
    wanted = np.uint8 if task == "seg" else np.float32
    require(values.dtype == wanted, f"values of {values.dtype}")
    require(task == "seg" or np.isfinite(values).all(), "values that are not finite")
    labels = TASKS[task].labels
    goal, known = labels.target(values, 255)
    require(known.shape == values.shape[1:], f"a mask {known.shape}")
    require(known.dtype == torch.bool, f"a mask of {known.dtype}")
    require(goal.shape == values.shape, f"a target {goal.shape}")
    found = goal[:, known]
    if task == "seg":
        require(((found >= 0) & (found < 3)).all(), "a class id that is none")
    if task == "depth":
        require((found > 0).all(), "a depth that is not positive")
        require((values >= 0).all(), "a depth below 0")
    if task == "saliency":
        require(((found == 0) | (found == 1)).all(), "a mask of other values than 0 and 1")
    if task == "normals":
        error = (found.norm(dim=0) - 1).abs()
        require(not error.numel() or error.max() < 1e-3, "a normal that is not of unit length")
    tally = labels.tally(_CLASSES if task == "seg" else None)
    tally.add(values, known.numpy())
    figures = tally.values()
    require(all(np.isfinite(v) for v in figures.values()), f"figures {figures}")


@target(cases=100)
def labels(case: Case) -> None:
    """Labels as written, of broken bytes, of another kind, and arrays of any type."""
    rng = case.rng
    task = rng.choice(sorted(TASKS))
    kind = TASKS[task].labels
    classes = _CLASSES if task == "seg" else None
    card = load_image_card("folders")
    path = case.folder / "label.png"
    values = _good(rng, task)
    kind.write(path, values, classes)
    way = rng.randrange(8)
    case.note(f"{task}, way {way}")
    match way:
        case 0:
            found = kind.decoder(card, classes)(path)
            require(np.allclose(found, values, atol=2e-3), "read otherwise than written")
            _require_sane(task, found)
            return
        case 1 | 2:
            path.write_bytes(break_bytes(rng, path.read_bytes()))
        case 3:
            path.write_bytes(break_png(rng, path.read_bytes()))
        case 4:
            path.write_bytes(_odd_label(rng, case))
        case 5:
            path.write_bytes(break_picture(case)[0])
        case _:
            path = path.with_suffix(".npy")
            data = _odd_array(rng)
            path.write_bytes(break_bytes(rng, data) if rng.random() < 0.3 else data)
            case.note(data[10:90])
    with case.refusable(PictureError, naming=path.name):
        _require_sane(task, kind.decoder(card, classes)(path))
