"""A room as a scene: Gaussians on its true surfaces, a capture of its walk, heads that know it."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.rooms import CLASSES, RoomClip, draw_room, make_room
from mmdiff_video.tasks import DataFacts, task_named
from recon.capture.capture import Capture, Photo, save_as_colmap
from recon.gaussians import Gaussians
from recon.io.ply import save_ply
from recon.lenses import Lens

WIDTH, HEIGHT, FRAMES = 48, 32, 6
ROOM_CLASSES = Classes(
    tuple(entry.name for entry in CLASSES), tuple(entry.color for entry in CLASSES)
)


def draw(number: int = 0) -> RoomClip:
    return draw_room(make_room("test", number), FRAMES, HEIGHT, WIDTH)


def write_room_scene(folder: Path, clip: RoomClip) -> Path:
    """Write SCENE/scene.ply and SCENE/capture; returns SCENE."""
    images = folder / "capture" / "images"
    images.mkdir(parents=True)
    photos = []
    for number, (pixels, viewmat, K) in enumerate(
        zip(clip.rgb, clip.viewmats, clip.Ks, strict=True)
    ):
        name = f"{number:02d}.png"
        Image.fromarray(pixels).save(images / name)
        lens = Lens(width=WIDTH, height=HEIGHT, fx=K[0, 0], fy=K[1, 1], cx=K[0, 2], cy=K[1, 2])
        photos.append(Photo(name, images / name, lens, torch.from_numpy(viewmat)))
    capture = Capture(photos, torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3).byte())
    save_as_colmap(capture, folder / "capture")
    save_ply(folder / "scene.ply", surfaces(clip))
    return folder


def surfaces(clip: RoomClip) -> Gaussians:
    """A small round Gaussian at the surface behind every pixel."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    means, scales = [], []
    for depth, viewmat, K in zip(clip.depth, clip.viewmats, clip.Ks, strict=True):
        rays = np.stack([(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1]], -1)
        inside = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) * depth[..., None]
        moved = inside.reshape(-1, 3) - viewmat[:3, 3]
        means.append(moved @ viewmat[:3, :3])
        scales.append(0.5 * depth.reshape(-1, 1) / K[0, 0])
    centres = torch.from_numpy(np.concatenate(means)).float()
    count = len(centres)
    return Gaussians(
        centres,
        torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        torch.from_numpy(np.concatenate(scales)).float().expand(-1, 3),
        torch.full((count,), 0.9),
        torch.from_numpy(clip.rgb.reshape(-1, 3) / 255).float(),
    )


class Oracle:
    """Stands for a :class:`DenseModel` that knows the truth of the pictures of a room.

    Args:
        task: name of its task.
        clip: the room.
        flips: share of the pixels of class heads that get a random class instead.
    """

    def __init__(self, task: str, clip: RoomClip, flips: float = 0.0):
        card = load_image_card("rooms")
        facts = DataFacts(
            card=card, classes=ROOM_CLASSES, min_depth=0.1, max_depth=20.0, eval_crop="none"
        )
        kind = task_named(task)
        self.classes = ROOM_CLASSES if kind.labels.has_classes else None
        backbone = SimpleNamespace(device=torch.device("cpu"))
        self.setup: Any = SimpleNamespace(
            task=kind.build(kind.losses(), facts), backbone=backbone, notice=""
        )
        rng = np.random.default_rng(0)
        self._outputs = {}
        for number in range(len(clip.rgb)):
            labels = clip.labels[number].copy()
            wrong = rng.random(labels.shape) < flips
            labels[wrong] = rng.integers(0, len(CLASSES), int(wrong.sum()))
            truth = {
                "seg": 9 * F.one_hot(torch.from_numpy(labels).long(), len(CLASSES)),
                "saliency": 12.0 * torch.from_numpy(clip.saliency[number])[..., None] - 6,
                "normals": torch.from_numpy(clip.normals[number]),
                "depth": _depth_output(clip.depth[number]),
            }[task]
            key = _key(torch.from_numpy(clip.rgb[number]).movedim(-1, 0) / 255)
            self._outputs[key] = truth.float().movedim(-1, 0)

    def outputs(self, images: Tensor, size: tuple[int, int], captions: Any = None) -> Tensor:
        found = torch.stack([self._outputs[_key(image)] for image in images])
        return F.interpolate(found, size, mode="bilinear", align_corners=False)


def _depth_output(depth: np.ndarray) -> Tensor:
    middle = np.log(20.0) - 0.5 * np.log(10)
    return torch.from_numpy(np.log(depth) - middle)[..., None]


def _key(image: Tensor) -> str:
    pixels = (image * 255).round().byte().contiguous().numpy()
    return hashlib.blake2b(pixels.tobytes()).hexdigest()
