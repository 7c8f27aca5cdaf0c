"""Folders that other programs make: diffusers pipelines and NYU's .mat."""

import json
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
from fuzz.harness import Case, require, require_sentence, target
from fuzz.mutate import break_bytes, break_json

from mmdiff_video.backbones.describe import describe
from mmdiff_video.datasets.loading import load_images
from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.errors import InputError
from mmdiff_video.tasks import TASKS

_TINY = Path(__file__).parents[2] / "fixtures" / "v0_1" / "tiny-wan"


@target(cases=60)
def backbone_folders(case: Case) -> None:
    """A diffusers folder whose JSON files are broken, described without its weights."""
    rng = case.rng
    folder = case.folder / "tiny"
    shutil.copytree(_TINY, folder, copy_function=os.link)
    files = sorted(folder.rglob("*.json"))
    path = rng.choice([file for file in files if "token" not in file.name])
    content = json.loads(path.read_text())
    path.unlink()
    match rng.randrange(10):
        case 0:
            pass
        case 1:
            path.mkdir()
        case _:
            path.write_bytes(break_json(rng, content))
            case.note(path.relative_to(folder), path.read_bytes()[:300])
    with case.refusable(InputError):
        found = describe(str(folder))
        names = [spec.name for spec in found.layout.taps]
        require(names, "a backbone without blocks")
        require(len(set(names)) == len(names), "two blocks of one name")
        geometry = found.layout.geometry
        sizes = (geometry.channels, geometry.space_stride, geometry.time_stride, geometry.patch)
        require(all(type(n) is int and n > 0 for n in sizes), f"sizes {sizes}")
        require(len(names) < 10_000, f"{len(names)} blocks")
        defaults = found.defaults
        require(all(0 <= t <= 1 for t in defaults.timesteps), f"timesteps {defaults.timesteps}")
        require(min(defaults.height, defaults.width, defaults.frames, defaults.steps) > 0, "sizes")


@cache
def _mat() -> bytes:
    import io

    import h5py

    file = io.BytesIO()
    chance = np.random.default_rng(0)
    with h5py.File(file, "w") as mat:
        mat["images"] = chance.integers(0, 255, (5, 3, 8, 6), np.uint8)
        mat["rawDepths"] = chance.random((5, 8, 6), np.float32) + 1
        mat["depths"] = chance.random((5, 8, 6), np.float32) + 1
    return file.getvalue()


@target(cases=40, prepare=_mat)
def nyu_mat(case: Case) -> None:
    """NYU's labelled .mat of broken bytes, or with arrays of other shapes."""
    rng = case.rng
    path = case.folder / "nyu_depth_v2_labeled.mat"
    if rng.random() < 0.6:
        path.write_bytes(break_bytes(rng, _mat()))
    else:
        import h5py

        images = (np.zeros((5, 3, 8, 6), np.uint8), np.zeros((5, 8, 6)), np.zeros(3), np.array(1))
        depths = (
            np.ones((5, 8, 6), "f4"),
            np.full((5, 8, 6), np.nan),
            np.zeros((2, 8, 6)),
            np.array("x", "S"),
        )
        with h5py.File(path, "w") as mat:
            for name, values in (("images", images), ("rawDepths", depths)):
                if rng.random() < 0.9:
                    mat[name] = rng.choice(values)
                    case.note(name, mat[name])
    labels = TASKS["depth"].labels
    with case.refusable(InputError, naming=(path.name, str(case.folder))):
        loaded = load_images(load_image_card("nyu"), case.folder, "train", labels)
        require(len(loaded.images) + len(loaded.skipped) <= 5, f"{len(loaded.images)} pictures")
        for image in loaded.images:
            try:
                rgb, depth = image.read()
            except PictureError as error:
                require_sentence(str(error))
            else:
                require(rgb.dtype == np.uint8, f"a picture of {rgb.dtype}")
                require(rgb.ndim == 3, f"a picture {rgb.shape}")
                require(rgb.shape[2] == 3, f"a picture {rgb.shape}")
                require(depth.dtype == np.float32, f"depth of {depth.dtype}")
                goal, known = labels.target(depth, 255)
                require(goal.isfinite().all(), "a depth that is not finite")
                require((goal[0][known] > 0).all(), "a depth that is not positive")
