import math
import os
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.sampling import FrameChoice
from mmdiff_video.datasets.clips.views import make_sample
from mmdiff_video.datasets.formats.camera_track import (
    parse_camera_file,
    read_camera_file,
    track_from_rows,
)
from recon.cameras import pluecker_rays


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


@settings(deadline=None, max_examples=40)
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
        (camera_line(10**25, GOOD, EYE, (0, 0, 0)), "does not fit into 64 bits"),
        (camera_line(-(10**19), GOOD, EYE, (0, 0, 0)), "does not fit into 64 bits"),
        (camera_line(5000, GOOD, EYE, (1e200, 0, 0)), "translation .* is beyond 1e[+]08"),
        (camera_line(5000, GOOD, EYE, (0, 0, -1e9)), "translation .* is beyond 1e[+]08"),
        (camera_line(5000, (1e200, 1, 0.5, 0.5), EYE, (0, 0, 0)), "focal length .* is no camera's"),
        (camera_line(5000, (1, 1e-3, 0.5, 0.5), EYE, (0, 0, 0)), "focal length .* is no camera's"),
        (camera_line(5000, (1, 101, 0.5, 0.5), EYE, (0, 0, 0)), "focal length .* is no camera's"),
        (camera_line(5000, GOOD, 1e200 * EYE, (0, 0, 0)), "no rotation"),
        (camera_line(5000, GOOD, 0 * EYE, (0, 0, 0)), "no rotation"),
    ],
)
def test_impossible_cameras_are_refused_by_line(line, complaint):
    with pytest.raises(ClipError, match=rf"a\.txt, line 4: .*{complaint}"):
        parse_camera_file("\n".join([*camera_file(2), line]), "a.txt")


@pytest.mark.parametrize(
    "number",
    [
        "1_000",
        "\u0661\u0660\u0660",  # Arabic
        "\uff11000",  # full width
        "0x3e8",
        "1000\0",
        "\0",
        "1,000",
        "1e",
        "--5",
        "1000\u00a0",
        "²",
    ],
)
@pytest.mark.parametrize("column", [0, 1, 9])
def test_what_only_python_takes_for_a_number_is_refused(number, column):
    columns = camera_line(5000, GOOD, EYE, (0, 0, 0)).split(" ")
    columns[column] = number
    with pytest.raises(ClipError, match=r"a\.txt, line 4: not a number"):
        parse_camera_file("\n".join([*camera_file(2), " ".join(columns)]), "a.txt")


def test_a_whole_number_of_thousands_of_digits_is_no_timestamp():
    line = camera_line(5000, GOOD, EYE, (0, 0, 0)).replace("5000", "9" * 5000, 1)
    with pytest.raises(ClipError, match=r"line 4: not a number") as caught:
        parse_camera_file("\n".join([*camera_file(2), line]), "a.txt")
    assert len(str(caught.value)) < 200


def test_a_line_of_megabytes_is_refused_in_few_words():
    with pytest.raises(ClipError, match=r"line 4: 9999999 characters are no camera") as caught:
        parse_camera_file("\n".join([*camera_file(2), "1 " * 5_000_000]), "a.txt")
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + "\n".join(camera_file()).encode(),
        "\r\n".join(camera_file()).encode() + b"\r\n\r\n",
        "\r".join(camera_file()).encode(),
        "\n".join(camera_file()).replace(" ", "\t  ").encode() + b"\n \n",
        "\n".join(camera_file()).replace("0.800000000", "+8.0e-1").encode(),
        "\n".join(camera_file()).replace("?v=abc", "?v=stra\u00dfe").encode(),
    ],
)
def test_what_editors_make_of_a_file_changes_nothing(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    track = read_camera_file(tmp_path / "a.txt")
    plain = parse_camera_file("\n".join(camera_file()), "a.txt")
    assert all(torch.equal(a, b) for a, b in zip(track, plain, strict=True))


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere", "latin-1", "huge"])
def test_what_is_no_readable_file_is_named(tmp_path, kind):
    path = tmp_path / "a.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to("a.txt")
    elif kind == "latin-1":
        path.write_bytes("\n".join([*camera_file(), "straße"]).encode("latin-1"))
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(65 * 2**20)
    with pytest.raises(ClipError, match=r"a\.txt (cannot be read|is no camera file): .") as caught:
        read_camera_file(path)
    assert kind != "latin-1" or "line 6: not UTF-8 text" in str(caught.value)


widest_focal = st.one_of(st.floats(0.02, 100), st.sampled_from([0.02, 100.0]))
widest_centre = st.one_of(st.floats(1e-300, 1 - 1e-16), st.just(0.5))
widest_offset = st.one_of(st.floats(-1e8, 1e8), st.sampled_from([0.0, 1e-3, 1e-300, 1e8, -1e8]))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.tuples(widest_focal, widest_focal, widest_centre, widest_centre),
            st.tuples(angle, angle, angle),
            st.tuples(widest_offset, widest_offset, widest_offset),
        ),
        min_size=6,
        max_size=6,
    )
)
def test_cameras_that_pass_are_finite_in_the_float32_of_training(cameras):
    rows = torch.zeros(len(cameras), 18, dtype=torch.float64)
    for row, (intrinsics, angles, t) in zip(rows, cameras, strict=True):
        row[:4] = double(intrinsics)
        row[6:] = torch.cat([rotation(*angles), double(t)[:, None]], 1).reshape(-1)
    track = track_from_rows(torch.arange(6), rows, lambda i: f"camera {i}")
    clip = PosedClip(
        key="a",
        intrinsics=track.intrinsics,
        viewmats=track.viewmats,
        height=48,
        width=64,
        frames=Grey(),
    )
    choice = FrameChoice((0, 2, 5), (1, 3))
    try:
        sample = make_sample(clip, choice, load_card("re10k"), height=16, width=16)
    except ClipError as error:
        assert re.search("hardly move|world units from the first", str(error))  # noqa: PT017
        return
    viewmats = torch.cat([sample.input_viewmats, sample.target_viewmats])
    rays = pluecker_rays(viewmats, torch.cat([sample.input_Ks, sample.target_Ks]), 16, 16)
    assert rays.isfinite().all()
    assert rays.square().sum().isfinite()
    assert sample.world_scale.isfinite()


class Grey:
    """Pictures without content."""

    def read(self, indices):
        return np.full((len(indices), 48, 64, 3), 90, np.uint8)


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
