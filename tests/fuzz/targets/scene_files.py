"""Scenes in files: broken ones, odd ones, and what `convert` and `render` make of them."""

import gzip
import json
import logging
import random
import struct
import warnings
from pathlib import Path

import torch
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes, break_json, cut_short, flip_bit
from given_scenes import LENS, around, some_gaussians, write_project
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.scenes.convert import convert
from mmdiff_video.scenes.render_file import render_file
from recon.cameras import invert_rigid
from recon.gaussians import Gaussians
from recon.io.camera_files import load_cameras
from recon.io.format_error import FormatError
from recon.io.scene_files import SCENE_FORMATS, load_scene, save_scene
from recon.io.transforms import Frame, write_transforms
from recon.upright import centre, up_of_cameras

_PARTS = ("means", "quats", "scales", "opacities", "colors")
_NUMBERS = (0.0, -1.0, 1.0, 1e-45, 1e-30, 1e-7, 1e4, 1e9, 1e20, 3.4e38, -3.4e38)
_NO_NUMBERS = (float("nan"), float("inf"), -float("inf"))


def _some(rng: random.Random) -> Gaussians:
    degree = rng.choice((None, None, 0, 1, 2, 3))
    return some_gaussians(degree, rng.choice((1, 1, 2, 3, 40)), rng.getrandbits(32))


def _break(rng: random.Random, data: bytes, ending: str) -> bytes:
    if ending == ".spz" and rng.random() < 0.8:
        inner = gzip.decompress(data)
        match rng.randrange(3):
            case 0:
                number = rng.choice((0, 1, 2, 4, 255, 2**16, 2**31, 2**32 - 1))
                place = 4 * rng.randrange(4)
                inner = inner[:place] + struct.pack("<I", number) + inner[place + 4 :]
            case 1:
                inner = flip_bit(rng, inner)
            case _:
                inner = break_bytes(rng, inner)
        return gzip.compress(inner)
    return rng.choice((break_bytes, flip_bit, cut_short))(rng, data)


def _require_sane(scene: Gaussians) -> None:
    require(scene.num >= 1, "an empty scene")
    for name in _PARTS:
        require(getattr(scene, name).dtype == torch.float32, f"{name} of another type")
    bounded = scene.opacities.isnan() | ((scene.opacities >= 0) & (scene.opacities <= 1))
    require(bounded.all(), "an opacity outside [0, 1]")
    require((scene.scales.isnan() | (scene.scales >= 0)).all(), "a scale below 0")
    require(scene.sh_degree in (None, 1, 2, 3), f"degree {scene.sh_degree}")


@target(cases=150)
def scenes(case: Case) -> None:
    """A scene of any format with broken bytes is refused, or is one that can be written again."""
    rng = case.rng
    ending = rng.choice(sorted(SCENE_FORMATS))
    path = case.folder / f"a{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_scene(path, _some(rng))
        good = path.read_bytes()
        data = good if rng.random() < 0.1 else _break(rng, good, ending)
        path.write_bytes(data)
        case.note(ending, data[:200])
        with case.refusable(FormatError, naming=str(path)):
            found = load_scene(path)
            _require_sane(found)
            finite = (
                torch.cat(
                    [
                        getattr(found, n).flatten(1)
                        if getattr(found, n).ndim > 1
                        else getattr(found, n)[:, None]
                        for n in _PARTS
                    ],
                    1,
                )
                .isfinite()
                .all()
            )
            again = case.folder / f"b{rng.choice(sorted(SCENE_FORMATS))}"
            try:
                save_scene(again, found)
            except ValueError:
                far = found.means.abs().max() >= 2**23 - 1
                require(not finite or far, "a scene of finite numbers is not written")
            else:
                require(finite, "NaN or infinity is written")
                require(load_scene(again).num == found.num, "another number of Gaussians")
    require(data != good or not case.refusal, f"a good file is refused: {case.refusal}")


def _odd(rng: random.Random, scene: Gaussians) -> Gaussians:
    for _ in range(rng.randint(0, 3)):
        name = rng.choice(_PARTS)
        flat: Tensor = getattr(scene, name).view(-1)
        value = rng.choice(_NUMBERS)
        if name == "opacities":
            value = min(max(value, 0.0), 1.0)
        if rng.random() < 0.3:
            flat[:] = value
        else:
            flat[rng.randrange(len(flat))] = value
    return scene


def _cameras(rng: random.Random, folder: Path) -> Path:
    viewmats = around(rng.choice((1, 2, 8)), rng.choice((0.0, 30.0, 360.0)))
    world = torch.eye(4, dtype=torch.float64)
    world[:3, 3] = torch.randn(3, generator=torch.Generator().manual_seed(rng.getrandbits(32)))
    world[:3, 3] *= rng.choice((0.0, 1.0, 1e6))
    viewmats = viewmats @ invert_rigid(world)
    if rng.random() < 0.5:
        return write_project(folder / "project", viewmats, text=rng.random() < 0.5)
    frames = [Frame(f"{k}.png", LENS, viewmat) for k, viewmat in enumerate(viewmats)]
    write_transforms(folder / "path.json", frames)
    return folder / "path.json"


@target(cases=80)
def scene_commands(case: Case) -> None:
    """Scenes of odd numbers, with cameras of anywhere, are converted and drawn, or refused."""
    rng = case.rng
    logging.disable(logging.CRITICAL)
    scene = _odd(rng, _some(rng))
    source = case.folder / f"a{rng.choice(('.ply', '.ply', '.splat'))}"
    cameras = _cameras(rng, case.folder) if rng.random() < 0.5 else None
    case.note(source.name, scene, cameras)
    with case.refusable(InputError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                save_scene(source, scene)
                load_scene(source)
        except ValueError:
            return  # of numbers that no file holds
        if rng.random() < 0.3 and source.suffix == ".ply":
            data = bytearray(source.read_bytes())
            data[-4:] = struct.pack("<f", rng.choice(_NO_NUMBERS))
            source.write_bytes(data)
        if rng.random() < 0.5:
            out = case.folder / f"b{rng.choice(sorted(SCENE_FORMATS))}"
            keep = rng.random() < 0.3
            told = convert(source, [out], cameras=cameras, keep_world=keep)
            require("nan" not in str(told), str(told))
            written = load_scene(out)
            require(written.num == told.gaussians.num, "another number of Gaussians")
            if not keep and out.suffix == ".ply" and told.gaussians.means.abs().max() < 1e5:
                require(centre(written).abs().max() < 0.1, f"the middle is {centre(written)}")
        else:
            out = case.folder / "v.mp4"
            names = ["orbit", "spiral", None, *([] if cameras is None else [str(cameras)])]
            name = rng.choice(names)
            frames = None if name == str(cameras) else 2
            depth = rng.random() < 0.3
            render_file(
                source,
                out=out,
                trajectory=name,
                cameras=cameras,
                size=(rng.choice((1, 2, 16, 33)), rng.choice((1, 2, 16, 33))),
                depth=depth,
                num_frames=frames,
            )
    require(out.exists() == (case.refusal is None), f"a file in spite of {case.refusal}")


@target(cases=80)
def scene_cameras(case: Case) -> None:
    """Files of cameras that are broken: refused, or cameras of finite numbers."""
    rng = case.rng
    path = _cameras(rng, case.folder)
    file = path if path.is_file() else rng.choice(sorted((path / "sparse" / "0").iterdir()))
    data = file.read_bytes()
    if file.suffix == ".json" and rng.random() < 0.7:
        data = break_json(rng, json.loads(data))
    else:
        data = break_bytes(rng, data)
    file.write_bytes(data)
    case.note(file.name, data[:200])
    with case.refusable(FormatError, naming=(str(path), str(file), str(case.folder))):
        found = load_cameras(path)
        require(len(found.lenses) == len(found.viewmats) >= 1, "no cameras")
        require(found.viewmats.isfinite().all(), "a camera that is not finite")
        up = up_of_cameras(found.viewmats)
        require(up is None or abs(float(up.norm()) - 1) < 1e-6, f"up is {up}")
