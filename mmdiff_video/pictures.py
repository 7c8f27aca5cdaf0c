"""Side-by-side pictures and videos."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside

_MARGIN = 6
_CAPTION = 18

LONGEST_SIDE = 16384
"""Pixels of a side of a video, at most, that libx264 encodes."""


def to_uint8(image: Tensor) -> np.ndarray:
    """Turn [..., H, W, 3] in [0, 1] into uint8, clipping what lies outside."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def colorize_depth(depth: Tensor, alpha: Tensor, near: float, far: float) -> Tensor:
    """Colour depth maps by inverse depth: near is red, far is blue, no surface is black.

    Args:
        depth: [..., H, W] camera z.
        alpha: [..., H, W] in [0, 1], how much surface there is.
        near, far: ends of the colour scale, 0 < near < far, in the units of ``depth``; fixed, so
            that the frames of a video share one.

    Returns:
        [..., H, W, 3] in [0, 1], on the CPU.
    """
    from matplotlib import colormaps

    inverse = (1 / depth.clamp_min(1e-6) - 1 / far) / (1 / near - 1 / far)
    table = torch.from_numpy(colormaps["turbo"](np.linspace(0, 1, 256))[:, :3].astype(np.float32))
    colors = table[(inverse.clamp(0, 1) * 255).long().cpu()]
    return colors * alpha.clamp(0, 1).cpu()[..., None]


def depth_range(depth: Tensor, alpha: Tensor) -> tuple[float, float]:
    """Return (near, far) that cover 96 % of the visible surface, for :func:`colorize_depth`."""
    visible = depth[alpha > 0.5]
    if visible.numel() < 2:
        return 0.1, 1.0
    # quantile refuses more than 16 M values; a stride loses nothing here
    visible = visible[:: max(1, visible.numel() // 1_000_000)]
    near, far = torch.quantile(visible, torch.tensor([0.02, 0.98], device=visible.device)).tolist()
    return max(near, 1e-3), max(far, near * 1.05, 1e-3)


def side_by_side(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    row_titles: Sequence[str] = (),
    note: str = "",
    scale: int = 1,
) -> Image.Image:
    """Lay pictures out in a captioned grid.

    Args:
        rows: rows of uint8 [H, W, 3] pictures of one size.
        columns: a caption per column.
        row_titles: a caption per row, drawn into the first picture's corner.
        note: a line at the foot (for instance that the backbone is untrained).
        scale: enlarge each picture by this whole factor, without smoothing.
    """
    height, width = rows[0][0].shape[:2]
    height, width = height * scale, width * scale
    n_columns = len(columns)
    total = (
        n_columns * (width + _MARGIN) + _MARGIN,
        _CAPTION + len(rows) * (height + _MARGIN) + (_CAPTION if note else 0),
    )
    canvas = Image.new("RGB", total, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(12)
    for c, title in enumerate(columns):
        draw.text((_MARGIN + c * (width + _MARGIN), 2), title, fill="black", font=font)
    for r, row in enumerate(rows):
        y = _CAPTION + r * (height + _MARGIN)
        for c, picture in enumerate(row):
            image = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(image, (_MARGIN + c * (width + _MARGIN), y))
        if row_titles:
            draw.text(
                (_MARGIN + 3, y + 2),
                row_titles[r],
                fill="white",
                font=font,
                stroke_width=2,
                stroke_fill="black",
            )
    if note:
        draw.text((_MARGIN, total[1] - _CAPTION + 1), note, fill="firebrick", font=font)
    return canvas


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG in one step."""
    with write_aside(path) as aside:
        image.save(aside, format="PNG")


def stamp(frame: np.ndarray, note: str) -> np.ndarray:
    """Write a note into the lower left corner of a uint8 [H, W, 3] frame."""
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).text(
        (3, frame.shape[0] - 14),
        note,
        fill="white",
        font=ImageFont.load_default(10),
        stroke_width=1,
        stroke_fill="black",
    )
    return np.asarray(image)


def save_video(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """Encode uint8 [H, W, 3] frames as H.264 mp4; the file appears when all are in.

    Holds one frame at a time. H.264 with 4:2:0 chroma wants even sides; an odd row or column is
    padded by repeating the edge.

    Raises:
        InputError: frames that are too large.
        OSError: the file cannot be written.
    """
    import av

    # "file:" lets names hold colons, which else stand for protocols
    with write_aside(path) as aside, av.open(f"file:{aside}", "w") as container:
        # PyAV mistakes a float rate; 65535 is the most that mp4 can hold
        rate = Fraction(fps).limit_denominator(65535)
        stream = container.add_stream("libx264", rate=rate)
        for number, picture in enumerate(frames):
            sides = ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0))
            padded = np.pad(picture, sides, mode="edge")
            if not number:
                if max(padded.shape) > LONGEST_SIDE:
                    height, width, _ = padded.shape
                    raise InputError(
                        f"'{path}' would be a video of {width} x {height} pixels: H.264 takes"
                        f" {LONGEST_SIDE} a side at most"
                    )
                stream.height, stream.width = padded.shape[:2]
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
