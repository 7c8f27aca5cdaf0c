"""Codecs, containers and groups of pictures: every frame is that of decoding in order."""

from contextlib import suppress
from itertools import product

import numpy as np
import pytest
from video_files import FRAMES, encode, in_order, numbers, patched, with_edits

from mmdiff_video.datasets.video_reader import (
    VideoError,
    count_frames,
    iterate_frames,
    read_frames,
)
from mmdiff_video.datasets.videos import index

X264 = {"crf": "8"}
OPEN = "log-level=none:keyint=6:min-keyint=6:bframes=3:b-adapt=0:open-gop=1"
KINDS = {
    "H.264": ("libx264", "yuv420p", {**X264, "g": "6"}),
    "H.264, no B-frames": ("libx264", "yuv420p", {**X264, "g": "6", "bf": "0"}),
    "H.264, groups of two": ("libx264", "yuv420p", {**X264, "g": "2", "bf": "1"}),
    "H.264, open groups": (
        "libx264",
        "yuv420p",
        {**X264, "x264-params": "open-gop=1:keyint=6:bframes=3:b-adapt=0"},
    ),
    "H.264, rolling refresh": (
        "libx264",
        "yuv420p",
        {**X264, "x264-params": "intra-refresh=1:keyint=6"},
    ),
    "H.264, interlaced": (
        "libx264",
        "yuv420p",
        {**X264, "flags": "+ildct+ilme", "x264-params": "tff=1:keyint=6"},
    ),
    "H.264, 10 bits": ("libx264", "yuv420p10le", {**X264, "g": "6"}),
    "HEVC, closed groups": (
        "libx265",
        "yuv420p",
        {"crf": "5", "x265-params": OPEN.replace("gop=1", "gop=0")},
    ),
    "HEVC, open groups": ("libx265", "yuv420p", {"crf": "5", "x265-params": OPEN}),
    "HEVC, open groups, 10 bits": ("libx265", "yuv420p10le", {"crf": "5", "x265-params": OPEN}),
    "AV1": ("libsvtav1", "yuv420p", {"crf": "5", "g": "6", "svtav1-params": "lp=1"}),
    "VP9": ("libvpx-vp9", "yuv420p", {"crf": "5", "b": "0", "g": "6", "lag-in-frames": "8"}),
    "VP9, alpha": ("libvpx-vp9", "yuva420p", {"crf": "5", "b": "0", "g": "6"}),
    "VP8, hidden frames": (
        "libvpx",
        "yuv420p",
        {"crf": "4", "b": "2M", "g": "6", "auto-alt-ref": "1", "lag-in-frames": "8"},
    ),
    "MPEG-4 part 2": ("mpeg4", "yuv420p", {"qscale": "2", "flags": "+qscale", "bf": "2", "g": "6"}),
    "MPEG-2": ("mpeg2video", "yuv420p", {"qscale": "2", "bf": "2", "g": "6"}),
    "ProRes": ("prores_ks", "yuv422p10le", {}),
    "ProRes, alpha": ("prores_ks", "yuva444p10le", {}),
    "Motion JPEG": ("mjpeg", "yuvj420p", {}),
    "FFV1": ("ffv1", "yuv420p", {"g": "6"}),
}
CONTAINERS = {
    "mp4": {},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "mov": {},
    "mkv": {},
    "webm": {},
    "ts": {},
    "avi": {},
}
H264, HEVC = [kind for kind in KINDS if "H.264" in kind], [k for k in KINDS if "HEVC" in k]
PAIRS = [
    *product(H264, ["mp4", "fragments.mp4", "mov", "mkv", "ts", "avi"]),
    *product(HEVC, ["mp4", "fragments.mp4", "mov", "mkv", "ts"]),
    *product(["AV1", "VP9", "VP9, alpha"], ["mp4", "fragments.mp4", "mkv", "webm"]),
    *product(["VP8, hidden frames"], ["mkv", "webm"]),
    *product(["MPEG-4 part 2", "MPEG-2"], ["mp4", "mov", "mkv", "ts", "avi"]),
    *product(["ProRes", "ProRes, alpha"], ["mov", "mkv"]),
    *product(["Motion JPEG"], ["mp4", "mov", "mkv", "avi"]),
    *product(["FFV1"], ["mp4", "mkv", "avi"]),
]


def proven_by_packets(path) -> bool:
    return index.index_video(path).checksums is None


@pytest.mark.parametrize(("kind", "container"), PAIRS)
def test_every_frame_is_that_of_decoding_in_order(tmp_path, kind, container):
    codec, pixels, options = KINDS[kind]
    path = encode(tmp_path / f"video.{container}", codec, pixels, options, CONTAINERS[container])
    expected = in_order(path)
    assert numbers(expected) == list(range(FRAMES))
    assert count_frames(path) == FRAMES
    for number, picture in enumerate(expected):
        assert np.array_equal(read_frames(path, [number])[0], picture)
    draws = np.random.default_rng(0)
    for _ in range(3):
        some = draws.integers(0, FRAMES, 5).tolist()
        assert np.array_equal(read_frames(path, some), np.stack([expected[i] for i in some]))
    assert np.array_equal(np.stack(list(iterate_frames(path))), np.stack(expected))


@pytest.mark.parametrize("container", ["mp4", "fragments.mp4", "mov", "mkv"])
@pytest.mark.parametrize("kind", ["H.264", "H.264, no B-frames", "H.264, groups of two"])
def test_plain_h264_is_never_decoded_to_be_indexed(tmp_path, kind, container):
    codec, pixels, options = KINDS[kind]
    path = encode(tmp_path / f"video.{container}", codec, pixels, options, CONTAINERS[container])
    assert proven_by_packets(path)


@pytest.mark.parametrize(
    "kind", ["H.264, open groups", "H.264, rolling refresh", "H.264, interlaced"]
)
def test_h264_whose_key_frames_prove_nothing_is_decoded_once(tmp_path, kind):
    assert not proven_by_packets(encode(tmp_path / "video.mp4", *KINDS[kind]))


SECOND = 1 / 25  # of a frame
START = 2 * SECOND  # where the first frame lies, behind the delay of B-frames


@pytest.mark.parametrize(
    ("edits", "shown"),
    [
        ([(5, 7)], [7, 8, 9, 10, 11]),
        ([(6, 0)], [0, 1, 2, 3, 4, 5]),
        ([(3, 2), (3, 12)], [2, 3, 4, 12, 13, 14]),
        ([(3, 12), (3, 2)], [12, 13, 14, 2, 3, 4]),
        ([(4, 0)] * 3, [0, 1, 2, 3] * 3),
    ],
)
@pytest.mark.parametrize("kind", ["H.264", "HEVC, open groups"])
def test_edit_lists_show_what_they_say(tmp_path, kind, edits, shown):
    whole = encode(tmp_path / "whole.mp4", *KINDS[kind])
    moved = [(length * SECOND, start * SECOND + START) for length, start in edits]
    path = with_edits(whole, tmp_path / "cut.mp4", moved)
    # What hangs on pictures that a cut leaves out is not shown by every decoder: order decides.
    expected = numbers(in_order(path))
    assert count_frames(path) == len(expected)
    if kind == "H.264":
        assert expected == shown
    for number, value in enumerate(expected):
        assert numbers(read_frames(path, [number])) == [value]
    assert numbers(iterate_frames(path)) == expected


def test_frames_without_an_even_rate_are_counted_one_by_one(tmp_path):
    for name, options in (("a.mp4", KINDS["H.264"]), ("b.mkv", KINDS["VP9"])):
        path = encode(tmp_path / name, *options, time=lambda i: i * i + i)
        assert numbers(read_frames(path, [17, 0, 9])) == [17, 0, 9]


def test_an_endless_edit_list_is_refused_at_once(tmp_path):
    whole = encode(tmp_path / "whole.mp4")
    path = with_edits(whole, tmp_path / "long.mp4", [(4 * SECOND, START)] * 20_000)
    with pytest.raises(VideoError, match=r"long\.mp4 has an edit list of 20000 entries"):
        count_frames(path)


def test_a_file_that_repeats_its_data_is_refused(tmp_path):
    draws = np.random.default_rng(0)
    noise = [draws.integers(0, 256, (48, 64, 3)).astype(np.uint8) for _ in range(FRAMES)]
    whole = encode(tmp_path / "whole.mp4", options={"g": "6", "crf": "4"}, pictures=noise)
    path = with_edits(whole, tmp_path / "again.mp4", [(18 * SECOND, START)] * 900)
    with pytest.raises(VideoError, match="more than 100 times over"):
        count_frames(path)


def test_a_frame_that_differs_is_never_given(tmp_path):
    path = encode(tmp_path / "video.mp4", *KINDS["HEVC, open groups"])
    found = index.index_video(path)
    assert found.checksums is not None
    assert found.random_access
    found.seek_times[:] = found.seek_times[::-1].copy()  # the container's index leads astray
    assert numbers(read_frames(path, [1, 8, 15])) == [1, 8, 15]
    assert not found.random_access  # and it is remembered
    found.checksums[8] += 1
    with pytest.raises(VideoError, match=r"video\.mp4 cannot be decoded"):
        read_frames(path, [1, 8])


def test_a_file_that_changes_is_indexed_anew(tmp_path):
    path = encode(tmp_path / "video.mp4")
    assert count_frames(path) == FRAMES
    cut = with_edits(path, tmp_path / "cut.mp4", [(5 * SECOND, START)])
    path.write_bytes(cut.read_bytes())
    assert count_frames(path) == 5


@pytest.mark.parametrize(
    ("box", "offset", "value"),
    [
        (b"stts", 8, 2_000_000_000),
        (b"stts", 8, 700_000_000),
        (b"stsz", 8, 700_000_000),
        (b"stts", 12, 0x7FFFFFFF),
        (b"mdhd", 12, 0),
        (b"mvhd", 12, 0),
    ],
)
def test_absurd_numbers_are_refused_or_read_right(tmp_path, box, offset, value):
    whole = encode(tmp_path / "whole.mp4")
    path = patched(whole, tmp_path / "odd.mp4", box, offset, value.to_bytes(4, "big"))
    with suppress(VideoError):
        count = count_frames(path)
        assert numbers(read_frames(path, list(range(count)))) == list(range(count))
