"""Contact sheets: pictures in a grid, as previews of a training."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP = 4
_LINE = 13


def contact_sheet(
    rows: Sequence[Sequence[Tensor]], captions: Sequence[str] = (), note: str = ""
) -> Image.Image:
    """Put pictures side by side in rows.

    Args:
        rows: pictures [3, H, W] in [0, 1], all of one size.
        captions: one below each row.
        note: at the foot.
    """
    height, width = rows[0][0].shape[-2:]
    columns = max(map(len, rows))
    sheet_width = columns * (width + _GAP) + _GAP
    letters = max(sheet_width // 6, 20)
    wrapped = [textwrap.wrap(caption, letters) for caption in captions]
    wrapped += [[]] * (len(rows) - len(wrapped))
    row_heights = [height + _GAP + _LINE * len(lines) for lines in wrapped]
    foot = textwrap.wrap(note, letters)
    sheet_height = sum(row_heights) + _GAP + (_LINE * len(foot) + _GAP if foot else 0)
    sheet = Image.new("RGB", (sheet_width, sheet_height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    y = _GAP
    for row, lines, row_height in zip(rows, wrapped, row_heights, strict=True):
        for i, picture in enumerate(row):
            sheet.paste(_picture(picture), (_GAP + i * (width + _GAP), y))
        for i, line in enumerate(lines):
            draw.text((_GAP, y + height + i * _LINE), line, fill="black", font=font)
        y += row_height
    for i, line in enumerate(foot):
        draw.text((_GAP, y + i * _LINE), line, fill="black", font=font)
    return sheet


def _picture(image: Tensor) -> Image.Image:
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().movedim(0, -1)
    return Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy()))
