"""Files of numbers: safetensors, cache entries, PLY."""

import json
import random
import struct
import warnings

import numpy as np
import torch
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes, break_json, flip_bit
from torch import Tensor

from mmdiff_video.features.cache import Entry, FeatureCache
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors
from recon.gaussians import Gaussians
from recon.io.ply import load_ply, save_ply

_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int64, torch.bool)


def tensors(rng: random.Random) -> dict[str, Tensor]:
    """A few tensors of any type, empty ones and scalars among them."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    shapes = ((3, 4), (), (0,), (1, 1, 5), (2, 0))
    return {
        name: (9 * torch.rand(rng.choice(shapes), generator=generator)).to(rng.choice(_TYPES))
        for name in ("a.weight", "b", "é")
    }


def break_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Break the header as JSON, its length, or any bytes."""
    (size,) = struct.unpack("<Q", data[:8])
    match rng.randrange(4):
        case 0:
            header = break_json(rng, json.loads(data[8 : 8 + size]))
            return struct.pack("<Q", len(header)) + header + data[8 + size :]
        case 1:
            return struct.pack("<Q", rng.choice((0, 1, 2**20, 2**63, 2**64 - 1))) + data[8:]
        case 2:
            return flip_bit(rng, data)
    return break_bytes(rng, data)


def require_same(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    """Assert equal names, types, shapes and values, bit for bit."""
    require(found.keys() == truth.keys(), f"tensors {sorted(found)}")
    for name, tensor in truth.items():
        require(found[name].dtype == tensor.dtype, f"{name} is {found[name].dtype}")
        require(torch.equal(found[name], tensor), f"other values in {name}")


@target(cases=120)
def safetensors(case: Case) -> None:
    """Whatever is broken in a file with a checksum is noticed."""
    rng = case.rng
    truth = tensors(rng)
    path = case.folder / "x.safetensors"
    save_tensors(path, truth, {"note": "é"})
    good = path.read_bytes()
    data = good if rng.random() < 0.1 else break_safetensors(rng, good)
    path.write_bytes(data)
    case.note(data[:200])
    with case.refusable(DamagedError, naming=path.name):
        found, metadata = load_tensors(path)
        if b"checksum" not in data and b"written" not in data:
            return  # as of another program: nothing says that it should be whole
        require_same(found, truth)
        require(metadata == {"note": "é"}, f"metadata {metadata}")
    require(data != good or not case.refusal, f"a good file is refused: {case.refusal}")


@target(cases=80)
def cache_entries(case: Case) -> None:
    """A broken entry of the cache is no entry; one of another address neither."""
    rng = case.rng
    cache = FeatureCache(case.folder, budget_gb=1.0)
    address = "ab" + "0" * 62
    truth = tensors(rng)
    cache.store(address, Entry(truth, (0.1, 0.5)))
    path = case.folder / "ab" / f"{address}.safetensors"
    good = path.read_bytes()
    data = good if rng.random() < 0.1 else break_safetensors(rng, good)
    path.write_bytes(data)
    case.note(data[:200])
    entry = cache.load(address)
    if entry is None:
        require(data != good, "a good entry is not read")
        require(not path.exists(), "a broken entry stays")
        case.refusal = "no entry"
    else:
        require_same(dict(entry.tensors), truth)
        require(entry.sigmas == (0.1, 0.5), f"sigmas {entry.sigmas}")
    cache.store(address, Entry(truth, (0.1, 0.5)))
    require(cache.load(address) is not None, "it cannot be stored anew")


def _scene(rng: random.Random, count: int) -> Gaussians:
    chance = torch.Generator().manual_seed(rng.getrandbits(32))

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=chance)

    colors = rng.choice(((3,), (4, 3), (9, 3), (16, 3)))
    return Gaussians(9 * draw(3) - 4, draw(4) + 0.1, draw(3), draw(), draw(*colors))


@target(cases=120)
def ply(case: Case) -> None:
    """A PLY of broken lines or bytes."""
    rng = case.rng
    path = case.folder / "scene.ply"
    scene = _scene(rng, rng.randint(0, 4))
    save_ply(path, scene)
    good = path.read_bytes()
    end = good.index(b"end_header\n") + 11
    way = rng.randrange(4)
    if way == 0:
        data = good
    elif way == 1:
        data = break_bytes(rng, good)
    else:
        data = _break_header(rng, good[:end]) + good[end:]
    path.write_bytes(data)
    case.note(data[:400])
    with warnings.catch_warnings(), case.refusable(ValueError, naming=str(path)):
        warnings.simplefilter("ignore")
        found = load_ply(path)
        require(found.means.dtype == torch.float32, f"means of {found.means.dtype}")
        bounded = found.opacities.isnan() | ((found.opacities >= 0) & (found.opacities <= 1))
        require(bounded.all(), "an opacity outside [0, 1]")
        require((found.scales.isnan() | (found.scales >= 0)).all(), "a scale below 0")
        dark = found.sh_degree is None and (found.colors < 0).any()
        require(not dark, "a colour below 0")
        if data == good:
            for name in ("means", "quats", "scales", "opacities", "colors"):
                a, b = getattr(found, name), getattr(scene, name)
                require(torch.allclose(a, b, rtol=1e-4, atol=1e-6), f"other {name}")
    require(data != good or not case.refusal, f"a good file is refused: {case.refusal}")


def _break_header(rng: random.Random, header: bytes) -> bytes:
    lines = header.split(b"\n")
    place = rng.randrange(len(lines))
    numbers = (b"-1", b"0", b"1e3", b"9" * 19, b"9" * 400, b"4294967297", "\u0661".encode(), b"")
    odd = (
        *(b"property list uchar int x", b"property float x", b"element face 1", b"comment \xff"),
        *(
            b"format ascii 1.0",
            b"format binary_big_endian 1.0",
            b"property double y",
            b"end_header",
        ),
        *(b"element vertex " + number for number in numbers),
    )
    match rng.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, rng.choice(odd))
        case 2:
            lines[place] = rng.choice(odd)
        case _:
            return break_bytes(rng, header)
    return b"\n".join(lines)


@target(cases=60)
def ply_writing(case: Case) -> None:
    """Gaussians of any numbers are written and read back, or refused without a file."""
    rng = case.rng
    scene = _scene(rng, rng.randint(1, 4))
    values = (float("nan"), float("inf"), -1.0, 0.0, 2.0, 1e38, 1e-38, -1e38, 1e-45)
    name = rng.choice(("means", "quats", "scales", "opacities", "colors"))
    tensor = getattr(scene, name).view(-1)
    place, value = rng.randrange(len(tensor)), rng.choice(values)
    tensor[place] = value
    case.note(f"{name}[{place}] = {value}")
    path = case.folder / "sub" / "scene.ply"
    with case.refusable(ValueError):
        save_ply(path, scene)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load_ply(path)
        inside = scene.opacities.clamp(0, 1)
        require(torch.allclose(found.opacities, inside, atol=1e-5), "other opacities")
        require(torch.allclose(found.means, scene.means), "other centres")
        require(np.allclose(found.scales, scene.scales.clamp_min(0), rtol=1e-4), "other scales")
    if case.refusal:
        left = [file for file in case.folder.rglob("*") if file.is_file()]
        require(not left, f"a refused file leaves {left}")
