import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.datasets.clips.clip import ClipError
from mmdiff_video.datasets.formats.camera_track import parse_camera_file, read_camera_file


def double(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rotation(a: float, b: float, c: float) -> torch.Tensor:
    """Rotation about z, then y, then x."""
    x = [[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]]
    y = [[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]]
    z = [[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]]
    return double(x) @ double(y) @ double(z)


def camera_line(time: int, intrinsics, R: torch.Tensor, t) -> str:
    matrix = torch.cat([R, double(t)[:, None]], 1)
    numbers = [*intrinsics, 0.0, 0.0, *matrix.reshape(-1).tolist()]
    return " ".join([str(time), *(f"{number:.9f}" for number in numbers)])


GOOD = (0.8, 1.1, 0.5, 0.45)
URL = "https://example.invalid/watch?v=abc"
EYE = torch.eye(3, dtype=torch.float64)


def camera_file(lines: int = 4) -> list[str]:
    return [URL, *(camera_line(i * 1000, GOOD, EYE, (0.1 * i, 0, 0)) for i in range(lines))]


angle = st.floats(-3, 3)
offset = st.floats(-100, 100)
camera = st.tuples(
    st.tuples(st.floats(0.2, 4), st.floats(0.2, 4), st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
    st.tuples(angle, angle, angle),
    st.tuples(offset, offset, offset),
)


@settings(deadline=None)
@given(st.lists(camera, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read(cameras, newline):
    lines = [
        camera_line(33_367 * i, intrinsics, rotation(*angles), t)
        for i, (intrinsics, angles, t) in enumerate(cameras)
    ]
    track = parse_camera_file(newline.join([URL, *lines, "", ""]), "a.txt")
    assert track.timestamps.tolist() == [33_367 * i for i in range(len(cameras))]
    for i, (intrinsics, angles, t) in enumerate(cameras):
        torch.testing.assert_close(track.intrinsics[i], double(intrinsics), atol=1e-8, rtol=0)
        R = rotation(*angles)
        torch.testing.assert_close(track.viewmats[i, :3, :3], R, atol=1e-8, rtol=0)
        torch.testing.assert_close(track.viewmats[i, :3, 3], double(t), atol=1e-8, rtol=0)
    assert (track.viewmats[:, 3] == torch.tensor([0.0, 0, 0, 1])).all()


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(0, 25).filter(lambda n: n != 19))
def test_a_wrong_column_count_names_file_line_and_count(line, columns):
    lines = camera_file()
    lines[line] = " ".join(["1"] * columns)
    # An empty last line is a trailing newline, not a line without columns.
    if columns == 0:
        lines.append(camera_line(9000, GOOD, EYE, (0, 0, 0)))
    with pytest.raises(
        ClipError, match=rf"a\.txt, line {line + 1}: {columns} columns, expected 19"
    ):
        parse_camera_file("\n".join(lines), "a.txt")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_with_a_reason(text):
    with pytest.raises(ClipError, match=r"a\.txt"):
        parse_camera_file(text, "a.txt")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (camera_line(1000, GOOD, EYE, (0, 0, 0)), "timestamp 1000 does not increase"),
        (camera_line(5000, (0.0, 1, 0.5, 0.5), EYE, (0, 0, 0)), "focal length"),
        (camera_line(5000, (1, 1, 160, 120), EYE, (0, 0, 0)), "principal point"),
        (camera_line(5000, GOOD, 1.1 * EYE, (0, 0, 0)), "no rotation"),
        (camera_line(5000, GOOD, -EYE, (0, 0, 0)), "no rotation"),
        (camera_line(5000, GOOD, EYE, (math.nan, 0, 0)), "not finite"),
        (camera_line(5000, GOOD, EYE, (math.inf, 0, 0)), "not finite"),
        (camera_line(5000, GOOD, EYE * math.nan, (0, 0, 0)), "not finite"),
        (camera_line(5000, GOOD, EYE, (0, 0, 0)).replace("0.8", "O.8"), "not a number"),
        (camera_line(5000, GOOD, EYE, (0, 0, 0)).replace("5000", "5.5"), "not a number"),
    ],
)
def test_impossible_cameras_are_refused_by_line(line, complaint):
    with pytest.raises(ClipError, match=rf"a\.txt, line 4: .*{complaint}"):
        parse_camera_file("\n".join([*camera_file(2), line]), "a.txt")


def test_a_missing_url_line_is_noticed():
    with pytest.raises(ClipError, match="line 1: expected the source URL"):
        parse_camera_file("\n".join(camera_file()[1:]), "a.txt")


def test_rotations_written_a_little_off_come_back_orthonormal():
    text = "\n".join([URL, camera_line(0, GOOD, 0.9998 * rotation(0.3, 0.2, 0.1), (1, 2, 3))])
    R = parse_camera_file(text, "a.txt").viewmats[0, :3, :3]
    torch.testing.assert_close(R @ R.T, EYE, atol=1e-12, rtol=0)
    torch.testing.assert_close(R, rotation(0.3, 0.2, 0.1), atol=1e-6, rtol=0)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "b.txt"
    file.write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(ClipError, match=r"b\.txt cannot be read"):
        read_camera_file(file)
