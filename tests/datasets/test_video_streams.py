"""Which stream of a file is its video, which way is up, and what is no video of ours."""

import os
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import PatchWelcomeError
from av.stream import Disposition
from video_files import FRAMES, encode, grey, numbers, patched, with_matrix

from mmdiff_video.datasets.video_reader import (
    VideoError,
    count_frames,
    frame_rate,
    iterate_frames,
    read_frames,
)
from mmdiff_video.datasets.videos import streams

QUARTERS = [
    ("left as it is", (1, 0, 0, 1), lambda p: p),
    ("scaled", (2, 0, 0, 2), lambda p: p),
    ("without a meaning", (0, 0, 0, 0), lambda p: p),
    ("clockwise", (0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    ("half a turn", (-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    ("counterclockwise", (0, -1, 1, 0), lambda p: np.rot90(p)),
    ("left and right swapped", (-1, 0, 0, 1), lambda p: p[:, ::-1]),
    ("top and bottom swapped", (1, 0, 0, -1), lambda p: p[::-1]),
    ("transposed", (0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    ("transposed the other way", (0, -1, -1, 0), lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
]


def corners() -> np.ndarray:
    """Four greys, so that each turn and mirror gives another picture."""
    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = 220, 160, 100
    return picture


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize(
    ("matrix", "shown"), [q[1:] for q in QUARTERS], ids=[q[0] for q in QUARTERS]
)
def test_videos_are_turned_and_mirrored_as_they_ask(tmp_path, codec, matrix, shown):
    plain = encode(tmp_path / "plain.mp4", codec, pictures=[corners()] * 5)
    path = with_matrix(plain, tmp_path / "turned.mp4", *matrix)
    expected = shown(read_frames(plain, [3])[0])
    assert np.abs(expected.astype(int) - shown(corners())).mean() < 8
    assert np.array_equal(read_frames(path, [3])[0], expected)
    assert np.array_equal(list(iterate_frames(path))[3], expected)


def test_a_turn_that_the_pictures_state_themselves_is_followed(tmp_path):
    plain = encode(tmp_path / "plain.mp4", pictures=[corners()] * 5)
    with av.open(str(plain)) as old, av.open(str(tmp_path / "sei.mp4"), "w") as new:
        copied = new.add_stream_from_template(old.streams.video[0])
        turn = av.BitStreamFilterContext(
            "h264_metadata=display_orientation=insert:rotate=90", old.streams.video[0], copied
        )
        for packet in old.demux(video=0):
            for changed in turn.filter(packet if packet.size else None):
                changed.stream = copied
                new.mux(changed)
    turned = read_frames(tmp_path / "sei.mp4", [0, 3])
    assert turned.shape == (2, 64, 48, 3)
    assert np.array_equal(turned[1], np.rot90(read_frames(plain, [3])[0]))


@pytest.mark.parametrize("degrees", [20, 45, 100])
def test_other_turns_are_refused(tmp_path, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    path = with_matrix(encode(tmp_path / "a.mp4"), tmp_path / "askew.mp4", c, s, -s, c)
    assert count_frames(path) == FRAMES
    with pytest.raises(VideoError, match=r"askew\.mp4 asks to be shown turned or sheared"):
        read_frames(path, [0])


def several(path: Path, *streams_: dict[str, Any]) -> Path:
    """Write a file of several video streams: codec, level, pixels, size, disposition, title."""
    with av.open(str(path), "w") as file:
        made = []
        for asked in streams_:
            stream: Any = file.add_stream(asked.get("codec", "libx264"), rate=25)
            stream.height, stream.width = asked.get("size", (48, 64))
            stream.pix_fmt = asked.get("pixels", "yuv420p")
            stream.disposition = asked.get("disposition", 0)
            stream.metadata.update(asked.get("names", {}))
            made.append((stream, asked))
        packets = []
        for stream, asked in made:
            picture = grey(asked["level"], *asked.get("size", (48, 64)))
            for _ in range(asked.get("frames", 4)):
                packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
            packets += stream.encode()
        for packet in packets:
            file.mux(packet)
    return path


DEFAULT, COVER = Disposition.default, Disposition.attached_pic


@pytest.mark.parametrize(
    ("suffix", "beside"),
    [
        ("mp4", {"codec": "mjpeg", "pixels": "yuvj420p", "disposition": COVER, "frames": 1}),
        ("mkv", {"disposition": 0}),
        ("mkv", {"names": {"title": "Depth map"}, "disposition": DEFAULT}),
        ("mkv", {"codec": "ffv1", "pixels": "gray16le", "disposition": DEFAULT}),
        ("mkv", {"names": {"title": "alpha"}, "disposition": DEFAULT, "size": (96, 128)}),
        ("mp4", {"names": {"handler_name": "disparity track"}, "disposition": DEFAULT}),
        ("mp4", {"size": (32, 32), "disposition": DEFAULT}),
    ],
)
def test_the_video_is_found_behind_what_accompanies_it(tmp_path, suffix, beside):
    video = {"level": 9, "disposition": DEFAULT}
    path = several(tmp_path / f"video.{suffix}", {"level": 3, **beside}, video)
    assert numbers(read_frames(path, [0, 3])) == [9, 9]
    assert numbers(iterate_frames(path)) == [9] * 4
    assert frame_rate(path) == 25


def test_a_cover_picture_is_no_video(tmp_path):
    cover = {"codec": "mjpeg", "pixels": "yuvj420p", "disposition": COVER, "frames": 1, "level": 3}
    path = several(tmp_path / "song.mp4", {"level": 9}, cover)
    data = path.read_bytes().replace(b"vide", b"soun")  # what is left is the cover
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"song\.mp4 has no video stream but a cover picture"):
        count_frames(path)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (b"evc1", r"odd\.mp4 is EVC, which this PyAV \(\S+\) cannot decode: re-encode it"),
        (b"zzzz", r"odd\.mp4 is of a codec that this PyAV \(\S+\) cannot decode: re-encode it"),
    ],
)
def test_codecs_without_a_decoder_are_named(tmp_path, entry, sentence):
    whole = encode(tmp_path / "whole.mp4", "libx265")
    path = patched(whole, tmp_path / "odd.mp4", b"hev1", -4, entry)
    for read in (count_frames, frame_rate, lambda p: read_frames(p, [0])):
        with pytest.raises(VideoError, match=sentence):
            read(path)


def test_a_decoder_that_gives_up_is_no_damage(tmp_path, monkeypatch):
    path = encode(tmp_path / "new.mp4", "libsvtav1")

    def gives_up(*_):
        raise PatchWelcomeError(0, "not yet implemented")

    monkeypatch.setattr(streams, "_choose", gives_up)
    with pytest.raises(VideoError, match=r"new\.mp4 is AV1, which this PyAV"):
        count_frames(path)


def test_a_video_that_changes_its_size_is_refused(tmp_path):
    small = encode(tmp_path / "a.ts", pictures=[grey(3)] * 4)
    large = encode(tmp_path / "b.ts", pictures=[grey(3, 96, 128)] * 4)
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(VideoError, match=r"both\.ts changes its size at frame 4, from 64 x 48"):
        count_frames(path)


def test_huge_pictures_are_refused_before_they_are_made(tmp_path, monkeypatch):
    path = encode(tmp_path / "video.mp4")
    monkeypatch.setattr(streams, "_MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match=r"video\.mp4 claims pictures of 64 x 48 pixels"):
        read_frames(path, [0])


@pytest.mark.parametrize(
    "name", ["http:a.mp4", "concat:a.mp4", "pipe:0.mp4", "a %d #1.mp4", "-i.mp4", "caf\udce9.mp4"]
)
def test_names_are_names_and_nothing_else(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.rename(encode(tmp_path / "plain.mp4"), name)
    for path in (Path(name), tmp_path / name):
        assert numbers(read_frames(path, [11])) == [11]


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile a.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_play_lists_open_no_other_files(tmp_path, text):
    encode(tmp_path / "a.mp4")
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(VideoError, match=r"list\.mp4 cannot be opened"):
        count_frames(tmp_path / "list.mp4")


def claims(kind: str, whole: bytes) -> bytes:
    """A file whose tables claim what it does not hold."""
    data = bytearray(whole)
    if kind == "nested":
        return whole + b"".join(struct.pack(">I4s", 8 * (3000 - i), b"trak") for i in range(3000))
    if kind == "equal sizes":
        place, content = data.index(b"stsz") + 8, struct.pack(">II", 1, 80_000_000)
    elif kind == "in a fragment":
        place, content = data.index(b"trun") + 4, struct.pack(">II", 0, 80_000_000)
    else:
        place, content = data.index(b"elst") + 8, struct.pack(">I", 2**32 - 1)
    data[place : place + len(content)] = content
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("nested", ""),
        ("equal sizes", r"bold\.mp4 claims 80000000 frames in \d+ bytes"),
        ("in a fragment", r"bold\.mp4 claims 800000\d\d frames in \d+ bytes"),
        ("edits", r"bold\.mp4 has an edit list of 4294967295 entries"),
    ],
)
def test_tables_of_claims_cost_neither_hours_nor_gigabytes(tmp_path, kind, sentence):
    container = {"movflags": "frag_keyframe+empty_moov"} if kind == "in a fragment" else None
    whole = encode(tmp_path / "whole.mp4", options={"g": "6"}, container=container)
    (tmp_path / "bold.mp4").write_bytes(claims(kind, whole.read_bytes()))
    if sentence:
        with pytest.raises(VideoError, match=sentence):
            count_frames(tmp_path / "bold.mp4")
    else:
        assert count_frames(tmp_path / "bold.mp4") == FRAMES


@pytest.mark.parametrize("seed", range(5))
def test_damage_is_always_one_sentence(tmp_path, seed):
    draws = np.random.default_rng(seed)
    whole = bytearray(encode(tmp_path / "whole.mp4", options={"g": "6"}).read_bytes())
    path = tmp_path / "hurt.mp4"
    for _ in range(20):
        data = bytearray(whole)
        for place in draws.integers(0, len(data), draws.integers(1, 9)):
            data[place] = draws.integers(256)
        path.write_bytes(data)
        try:
            count = count_frames(path)
            assert len(read_frames(path, [0, count - 1])) == 2
            assert len(list(iterate_frames(path))) == count
        except VideoError as error:
            assert "hurt.mp4" in str(error)  # noqa: PT017
