import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
import pytest

from mmdiff_video.datasets.video_reader import (
    VideoError,
    count_frames,
    iterate_frames,
    read_frames,
)

FRAMES = 40


def grey_levels(pictures: np.ndarray) -> list[int]:
    """Frame numbers that :func:`numbered_video` painted."""
    return [round((float(picture.mean()) - 40) / 4) for picture in pictures]


@pytest.fixture(scope="module", params=["all key frames", "one key frame", "b-frames"])
def numbered_video(request, tmp_path_factory):
    """A video whose frame i is grey of level 40 + 4 i."""
    options = {
        "all key frames": {"g": "1"},
        "one key frame": {"g": "1000", "bf": "0", "sc_threshold": "0"},
        "b-frames": {"g": "12", "bf": "3", "b_strategy": "0"},
    }[request.param]
    file = tmp_path_factory.mktemp("video") / "numbered.mp4"
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = options
        for i in range(FRAMES):
            picture = np.full((48, 64, 3), 40 + 4 * i, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file


def test_frames_are_exact_in_any_order(numbered_video):
    assert count_frames(numbered_video) == FRAMES
    for indices in ([0], [FRAMES - 1], [5, 6, 7], [31, 2, 2, 17, 39, 0], list(range(FRAMES))):
        pictures = read_frames(numbered_video, indices)
        assert pictures.shape == (len(indices), 48, 64, 3)
        assert pictures.dtype == np.uint8
        assert grey_levels(pictures) == indices


def copy_packets(source: Path, target: Path, *, later: int = 0, **options: str) -> None:
    """Copy a video without re-encoding, its times moved by a number of frames."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        assert stream.average_rate is not None
        assert stream.time_base is not None
        shift = round(later / stream.average_rate / stream.time_base)
        for packet in old.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copied
                new.mux(packet)


def test_frames_that_a_cut_file_hides_are_not_counted(numbered_video, tmp_path):
    cut = tmp_path / "cut.mp4"
    copy_packets(numbered_video, cut, later=-5)
    assert count_frames(cut) == FRAMES - 5
    indices = [0, 1, 20, 34]
    assert grey_levels(read_frames(cut, indices)) == [i + 5 for i in indices]


def test_a_late_start_does_not_move_frames(numbered_video, tmp_path):
    late = tmp_path / "late.mp4"
    copy_packets(numbered_video, late, later=60)
    assert count_frames(late) == FRAMES
    assert grey_levels(read_frames(late, [0, 17, 39])) == [0, 17, 39]


def turned(source: Path, target: Path) -> None:
    """Copy an mp4, and have it ask to be shown a quarter turn clockwise, as phones do."""
    data = bytearray(source.read_bytes())
    header = data.index(b"tkhd") + 4
    assert data[header] == 0  # version: its times take 4 bytes each
    matrix = slice(header + 40, header + 76)  # of the 16.16 and 2.30 fixed point of ISO 14496-12
    one = 1 << 16
    assert struct.unpack(">9i", data[matrix]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[matrix] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    target.write_bytes(data)


def test_a_video_filmed_sideways_comes_upright(tmp_path):
    lying = tmp_path / "lying.mp4"
    frame = np.full((48, 64, 3), 40, np.uint8)
    frame[:, :32] = 200
    iio.imwrite(lying, np.stack([frame] * 3), plugin="pyav", codec="libx264", fps=10)
    turned(lying, tmp_path / "phone.mp4")
    every = list(iterate_frames(tmp_path / "phone.mp4"))
    for picture in (*read_frames(tmp_path / "phone.mp4", [0, 2]), *every):
        assert picture.shape == (64, 48, 3)
        assert abs(picture[:30].astype(int) - 200).max() < 8  # the left has become the top
        assert abs(picture[34:].astype(int) - 40).max() < 8


def test_a_whole_video_is_decoded_in_one_go(numbered_video, tmp_path):
    assert grey_levels(np.stack(list(iterate_frames(numbered_video)))) == list(range(FRAMES))
    cut = tmp_path / "cut.mp4"
    copy_packets(numbered_video, cut, later=-5)
    assert grey_levels(np.stack(list(iterate_frames(cut)))) == list(range(5, FRAMES))


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6, 0.97])
def test_a_truncated_video_never_passes_as_whole(rooms, tmp_path, kept):
    cut = tmp_path / "cut.mp4"
    # The index goes first, as in files made for streaming; else a truncated file does not open.
    copy_packets(next((rooms / "videos").glob("*.mp4")), cut, movflags="faststart")
    assert count_frames(cut) == 24
    cut.write_bytes(cut.read_bytes()[: int(kept * cut.stat().st_size)])
    with suppress(VideoError):
        assert count_frames(cut) < 24
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        read_frames(cut, [0, 23])
    with suppress(VideoError):  # refused, or as many as are counted, which are fewer
        assert len(list(iterate_frames(cut))) == count_frames(cut)


def test_what_is_no_video_is_refused(tmp_path):
    file = tmp_path / "page.mp4"
    file.write_text("<html>video unavailable</html>")
    with pytest.raises(VideoError, match=r"page\.mp4 cannot be opened"):
        count_frames(file)
    with pytest.raises(VideoError, match=r"page\.mp4 cannot be opened"):
        read_frames(file, [0])
    with pytest.raises(VideoError, match="no video"):
        count_frames(tmp_path / "none.mp4")


def test_an_index_past_the_end_names_both_numbers(rooms):
    video = next((rooms / "videos").glob("*.mp4"))
    with pytest.raises(VideoError, match="holds 24 frames, frame 24 was asked for"):
        read_frames(video, [0, 24])


@pytest.mark.parametrize("width", [32, 48, 64, 80])
def test_narrow_videos_are_read(tmp_path, width):
    frames = np.full((3, 32, width, 3), 128, np.uint8)
    path = tmp_path / "narrow.mp4"
    iio.imwrite(path, frames, plugin="pyav", codec="libx264", fps=10)
    found = read_frames(path, [0, 2])
    assert found.shape == (2, 32, width, 3)
    assert abs(found.astype(int) - 128).max() < 4
