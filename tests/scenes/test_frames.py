from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmdiff_video.pictures import save_video
from mmdiff_video.scenes.capture.frames import choose_frames, sharpest, sharpness


def checks(blur: float = 0.0) -> np.ndarray:
    board = (np.indices((64, 64)).sum(0) // 4 % 2 * 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(board[..., None], 3, 2))
    return np.array(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image)


def test_blur_lowers_the_sharpness():
    values = [sharpness(checks(blur)) for blur in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert sharpness(np.zeros((2, 2, 3), np.uint8)) == 0


def test_the_sharpest_of_each_part_is_chosen():
    blurs = [2, 0, 2, 2, 2, 1, 1, 2, 2, 4, 3, 4]
    frames = list(sharpest([checks(b) for b in blurs], len(blurs), 4))
    assert [f.number for f in frames] == [1, 5, 6, 10]


@pytest.mark.parametrize(("count", "most", "chosen"), [(5, 10, 5), (10, 10, 10), (11, 10, 10)])
def test_a_short_video_is_taken_whole(tmp_path: Path, count: int, most: int, chosen: int):
    save_video([checks()] * count, tmp_path / "v.mp4", 25)
    frames = list(choose_frames(tmp_path / "v.mp4", most))
    assert len(frames) == chosen
    assert len({f.number for f in frames}) == chosen
