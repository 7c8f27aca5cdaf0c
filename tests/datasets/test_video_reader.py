import subprocess
import sys
from contextlib import suppress

import av
import numpy as np
import pytest

from mmdiff_video.datasets import video_reader
from mmdiff_video.datasets.video_reader import VideoError, count_frames, read_frames

READERS = {
    "decord": (video_reader._count_decord, video_reader._read_decord),
    "pyav": (video_reader._count_pyav, video_reader._read_pyav),
}
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
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = options
        for i in range(FRAMES):
            picture = np.full((48, 64, 3), 40 + 4 * i, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file


@pytest.mark.parametrize("reader", READERS)
def test_frames_are_exact_in_any_order(numbered_video, reader):
    if reader == "decord":
        pytest.importorskip("decord")
    count, read = READERS[reader]
    assert count(numbered_video) == FRAMES
    for indices in ([0], [FRAMES - 1], [5, 6, 7], [31, 2, 2, 17, 39, 0], list(range(FRAMES))):
        pictures = read(numbered_video, indices)
        assert pictures.shape == (len(indices), 48, 64, 3)
        assert pictures.dtype == np.uint8
        assert grey_levels(pictures) == indices


def test_both_readers_return_the_same_pictures(real_data):
    pytest.importorskip("decord")
    for video in sorted((real_data / "re10k" / "videos").glob("*.mp4"))[:3]:
        assert video_reader._count_decord(video) == video_reader._count_pyav(video) == 50
        indices = [41, 0, 7, 7, 49]
        a, b = video_reader._read_decord(video, indices), video_reader._read_pyav(video, indices)
        assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6, 0.97])
def test_a_cut_video_never_passes_as_whole(rooms, tmp_path, reader, kept):
    if reader == "decord":
        pytest.importorskip("decord")
    count, read = READERS[reader]
    whole = next((rooms / "videos").glob("*.mp4"))
    cut = tmp_path / "cut.mp4"
    # The index goes first, as in files made for streaming; else a cut file does not even open.
    subprocess.run([sys.executable, "-c", FASTSTART, str(whole), str(cut)], check=True)
    cut.write_bytes(cut.read_bytes()[: int(kept * cut.stat().st_size)])
    with suppress(VideoError):
        assert count(cut) < 24
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        read(cut, [0, 23])


FASTSTART = """
import sys, av
with av.open(sys.argv[1]) as old, av.open(
    sys.argv[2], "w", options={"movflags": "faststart"}
) as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    for packet in old.demux(old.streams.video[0]):
        if packet.dts is not None:
            packet.stream = stream
            new.mux(packet)
"""


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_video_is_refused(tmp_path, reader):
    if reader == "decord":
        pytest.importorskip("decord")
    file = tmp_path / "page.mp4"
    file.write_text("<html>video unavailable</html>")
    for function in (lambda: READERS[reader][0](file), lambda: READERS[reader][1](file, [0])):
        with pytest.raises(VideoError, match=r"page\.mp4 cannot be opened"):
            function()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(VideoError, match="no video"):
        count_frames(tmp_path / "none.mp4")


def test_an_index_past_the_end_names_both_numbers(rooms):
    video = next((rooms / "videos").glob("*.mp4"))
    with pytest.raises(VideoError, match="holds 24 frames, frame 24 was asked for"):
        read_frames(video, [0, 24])


def test_pyav_steps_in_where_decord_is_missing(rooms, monkeypatch):
    video = next((rooms / "videos").glob("*.mp4"))
    expected = video_reader._read_pyav(video, [3, 20])
    monkeypatch.setitem(sys.modules, "decord", None)  # import raises ImportError
    video_reader._has_decord.cache_clear()
    try:
        assert not video_reader._has_decord()
        assert count_frames(video) == 24
        assert (read_frames(video, [3, 20]) == expected).all()
    finally:
        video_reader._has_decord.cache_clear()
