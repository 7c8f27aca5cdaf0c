import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff_video.datasets.video_reader import count_frames, read_frames
from mmdiff_video.errors import InputError
from mmdiff_video.pictures import (
    colorize_depth,
    depth_range,
    save_png,
    save_video,
    side_by_side,
    stamp,
    to_uint8,
)


def flat(value: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_side_by_side_places_every_picture_unscaled():
    grid = side_by_side([[flat(10), flat(20)], [flat(30), flat(40)]], ["a", "b"])
    pixels = np.asarray(grid)
    for value in (10, 20, 30, 40):
        assert (pixels == value).all(-1).sum() >= 20 * 30


def test_a_note_adds_a_red_line_at_the_foot():
    plain = side_by_side([[flat(0)]], ["a"])
    noted = side_by_side([[flat(0)]], ["a"], note="untrained backbone")
    assert noted.size[1] > plain.size[1]
    foot = np.asarray(noted)[plain.size[1] :].astype(int)
    assert (foot[..., 0] - foot[..., 1]).max() > 60


def test_png_and_video_leave_no_partial_files(tmp_path: Path):
    save_png(Image.fromarray(flat(7)), tmp_path / "new" / "a.png")
    save_video([flat(v) for v in (0, 120, 240)], tmp_path / "v.mp4", fps=10)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.png", "v.mp4"]


def test_video_of_odd_size_is_padded_and_reads_back(tmp_path: Path):
    save_video([flat(v, 21, 31) for v in (10, 120, 240)], tmp_path / "v.mp4", fps=10)
    frames = read_frames(tmp_path / "v.mp4", [0, 2])
    assert frames.shape == (2, 22, 32, 3)
    assert abs(frames[0].mean() - 10) < 4
    assert abs(frames[1].mean() - 240) < 4


def test_a_video_is_encoded_while_its_frames_are_made(tmp_path: Path):
    made: list[weakref.ref] = []

    def frames() -> Iterator[np.ndarray]:
        for value in range(40):
            frame = flat(value)
            made.append(weakref.ref(frame))
            assert sum(ref() is not None for ref in made) < 5
            yield frame

    save_video(frames(), tmp_path / "v.mp4", fps=10)
    assert count_frames(tmp_path / "v.mp4") == 40


def test_a_video_that_breaks_off_leaves_nothing(tmp_path: Path):
    def frames() -> Iterator[np.ndarray]:
        yield flat(7)
        raise RuntimeError("out of frames")

    with pytest.raises(RuntimeError, match="out of frames"):
        save_video(frames(), tmp_path / "v.mp4", fps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sides", [(2, 16385), (16386, 2), (2, 40000)])
def test_a_video_too_large_to_encode_is_a_sentence(tmp_path: Path, sides: tuple[int, int]):
    with pytest.raises(InputError, match="16384 a side at most"):
        save_video([flat(7, *sides)], tmp_path / "v.mp4", fps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["2024:01:01.mp4", "rtmp:x.mp4", "%03d.mp4", "a b#?.mp4"])
def test_names_that_ffmpeg_could_mistake_are_names(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    save_video([flat(7)], Path(name), fps=10)
    assert count_frames(Path(name)) == 1


def test_to_uint8_clips_and_rounds():
    assert to_uint8(torch.tensor([[[-1.0, 0.5, 2.0]]])).tolist() == [[[0, 128, 255]]]


def test_depth_colours_tell_near_from_far_and_nothing():
    depth = torch.tensor([[1.0, 10.0, 5.0]])
    colors = colorize_depth(depth, torch.tensor([[1.0, 1.0, 0.0]]), near=1.0, far=10.0)
    assert (colors[0, 2] == 0).all()
    assert colors[0, 0, 0] > colors[0, 0, 2]  # turbo: near is red
    assert colors[0, 1, 2] > colors[0, 1, 0] * 0.5  # far is dark blue


def test_depth_range_ignores_the_background():
    depth = torch.tensor([1.0, 2.0, 3.0, 1000.0])
    near, far = depth_range(depth, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert 1.0 <= near < far <= 3.0
    assert depth_range(depth, torch.zeros(4)) == (0.1, 1.0)


def test_stamp_changes_only_the_foot():
    stamped = stamp(flat(100, 60, 200), "untrained backbone")
    assert (stamped[:40] == 100).all()
    assert (stamped[46:] != 100).any()
