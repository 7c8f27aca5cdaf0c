"""A contact sheet of rooms with their ground truth, to be looked at."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside
from mmdiff_video.rooms.classes import CLASSES
from mmdiff_video.rooms.drawing import RoomClip
from mmdiff_video.rooms.furnishing import make_room
from mmdiff_video.rooms.pool import draw_rooms

_FAR = 6.0  # metres; where the depth colours end
_TEXT = 62
_GAP = 6


def draw_sheet(
    path: Path,
    *,
    scenes: int = 6,
    seed: int = 0,
    split: str = "train",
    size: int = 160,
    columns: int = 1,
) -> None:
    """Draw rooms with their ground truth: colours, depth, labels, saliency, and the caption below.

    Args:
        path: a picture file.
        scenes: number of rooms, at least 1, numbered from 0.
        seed, split: as in :func:`make_room`.
        size: of each picture, pixels.
        columns: rooms side by side.

    Raises:
        InputError: no scenes, an unknown split, a file name that is no picture's, or as in
            :func:`draw_room`.
    """
    if scenes < 1:
        raise InputError(f"a sheet needs at least 1 scene, not {scenes}")
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"'{path}' is no picture file; give a name that ends in .png or .jpg")
    rooms = [make_room(split, index, seed) for index in range(scenes)]
    clips = draw_rooms(rooms, workers=1 if scenes < 4 else None, frames=1, height=size, width=size)
    cells = [_cell(clip, size) for clip in clips]
    rows = -(-len(cells) // columns)
    height, width = cells[0].height + _GAP, cells[0].width + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % columns * width + _GAP, i // columns * height + _GAP))
    with write_aside(path) as aside:
        sheet.save(aside)


def _cell(clip: RoomClip, size: int) -> Image.Image:
    palette = np.array([entry.color for entry in CLASSES], dtype=np.uint8)
    dimmed = (clip.rgb[0] * 0.25 + 40).astype(np.uint8)
    pictures: list[NDArray[Any]] = [
        clip.rgb[0],
        _depth_colors(clip.depth[0]),
        palette[clip.labels[0]],
        np.where(clip.saliency[0][..., None], clip.rgb[0], dimmed),
    ]
    lines = textwrap.wrap(clip.caption, width=4 * size // 6)
    out = Image.new("RGB", (4 * size, size + _TEXT), "white")
    out.paste(Image.fromarray(np.concatenate(pictures, 1)), (0, 0))
    ImageDraw.Draw(out).multiline_text((2, size + 3), "\n".join(lines[:5]), fill="black", spacing=1)
    return out


def _depth_colors(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    near = 1 - np.clip(depth / _FAR, 0, 1)
    return (colormaps["magma"](near)[..., :3] * 255).astype(np.uint8)
