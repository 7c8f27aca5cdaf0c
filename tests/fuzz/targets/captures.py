"""Captures: COLMAP's text and binary files, and transforms.json."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from fuzz.harness import Case, require, target
from fuzz.mutate import WORDS, break_bytes, break_json, break_text
from PIL import Image

from recon.cameras import invert_rigid
from recon.capture.capture import Capture, Photo, load_capture, save_as_colmap, save_as_transforms
from recon.io.format_error import FormatError
from recon.lenses import Lens
from recon.rotations import matrices_from_quats

_NUMBERS = ("nan", "inf", "1e400", "1e300", "1e-320", "0", "-1", "1", "0.5", "x", "1_0", "9" * 25)
_FILES = ("cameras", "images", "points3D")


def _capture(rng: random.Random, folder: Path) -> Capture:
    photos = []
    for number in range(rng.randint(1, 3)):
        path = folder / "images" / f"{number} ü.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8)).save(path)
        viewmat = torch.eye(4, dtype=torch.float64)
        quat = torch.tensor([rng.gauss(0, 1) for _ in range(4)], dtype=torch.float64)
        viewmat[:3, :3] = matrices_from_quats(quat / quat.norm())
        viewmat[:3, 3] = torch.tensor([rng.uniform(-3, 3) for _ in range(3)])
        lens = Lens(width=12, height=8, fx=9, fy=9, cx=6, cy=4, k1=rng.choice((0.0, -0.05)))
        photos.append(Photo(path.name, path, lens, viewmat))
    points = torch.tensor([[rng.uniform(-1, 1) for _ in range(3)] for _ in range(4)]).double()
    return Capture(photos, points, torch.zeros(4, 3, dtype=torch.uint8))


def _require_sane(found: Capture) -> None:
    """Assert what :class:`Capture` promises."""
    require(found.photos, "a capture without photos")
    viewmats = found.viewmats()
    require(viewmats.isfinite().all(), "viewmats are not finite")
    turns = viewmats[:, :3, :3]
    error = (turns @ turns.mT - torch.eye(3, dtype=turns.dtype)).abs().max()
    require(error < 1e-6, f"rotations are off by {error}")
    require((torch.linalg.det(turns) > 0).all(), "a mirrored camera")
    require(invert_rigid(viewmats).isfinite().all(), "cameras that are nowhere")
    require(found.points.shape == (len(found.rgb), 3), f"points {found.points.shape}")
    require(found.points.isfinite().all(), "points that are not finite")
    require(all(photo.path.is_file() for photo in found.photos), "a photo without its file")
    require(all(np.isfinite(photo.lens.K().numpy()).all() for photo in found.photos), "odd lenses")


@target(cases=80)
def colmap_text(case: Case) -> None:
    """A COLMAP project one of whose text files has broken words, lines or bytes."""
    rng = case.rng
    save_as_colmap(_capture(rng, case.folder), case.folder, text=True)
    path = case.folder / "sparse" / "0" / f"{rng.choice(_FILES)}.txt"
    data = break_text(rng, path.read_text(encoding="utf-8"), (*WORDS, *_NUMBERS))
    path.write_bytes(data)
    case.note(path.name, data[:200])
    with case.refusable(FormatError, echoed=("\u2028", "\x85")):
        _require_sane(load_capture(case.folder))


@target(cases=80)
def colmap_binary(case: Case) -> None:
    """A COLMAP project one of whose binary files has broken bytes."""
    rng = case.rng
    save_as_colmap(_capture(rng, case.folder), case.folder)
    path = case.folder / "sparse" / "0" / f"{rng.choice(_FILES)}.bin"
    path.write_bytes(break_bytes(rng, path.read_bytes()))
    case.note(path.name, path.read_bytes()[:100])
    with case.refusable(FormatError):
        _require_sane(load_capture(case.folder))


@target(cases=80)
def transforms_json(case: Case) -> None:
    """A transforms.json that is broken as JSON, or holds values of odd kinds."""
    rng = case.rng
    save_as_transforms(_capture(rng, case.folder), case.folder)
    path = case.folder / "transforms.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    if rng.random() < 0.3:
        content["applied_transform"] = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]
    path.write_bytes(break_json(rng, content))
    case.note(path.read_bytes()[:300])
    with case.refusable(FormatError, naming=str(case.folder)):
        _require_sane(load_capture(path))
