"""Open a video file, and choose the stream that is the video."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmdiff_video.datasets.clips.clip import ClipError
from mmdiff_video.datasets.videos.tables import read_claims

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

# Containers and bare streams of video. Play lists (HLS, DASH, ffconcat) are not among them: they
# would open other files and addresses.
_FORMATS = (
    "mov,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,mxf,gif,ivf,nut,rm,dv,yuv4mpegpipe,"
    "h264,hevc,vvc,m4v,obu,av1,apng"
)

# The largest picture that a level of a codec allows (AV1, level 7).
_MOST_PIXELS = 16384 * 8704

_MOST_EDITS = 1000

# A file that holds fewer bytes than it claims frames is cut short at best; so many do no harm.
_FEW_SAMPLES = 1_000_000

# How codecs are called in files, for those that a build of FFmpeg may lack.
_CODEC_MARKS = {
    b"av01": "AV1",
    b"V_AV1": "AV1",
    b"hvc1": "HEVC",
    b"hev1": "HEVC",
    b"V_MPEGH": "HEVC",
    b"vvc1": "VVC",
    b"vvi1": "VVC",
    b"V_MPEGI": "VVC",
    b"vp09": "VP9",
    b"V_VP9": "VP9",
    b"evc1": "EVC",
    b"apv1": "APV",
    b"encv": "encrypted",
}


class VideoError(ClipError):
    """A video file that is missing, damaged, cut short, not a video, or of an unknown codec."""


def cannot_decode(path: Path) -> VideoError:
    """The reason for what a decoder refuses: its own messages help nobody."""
    return VideoError(f"{path.name} cannot be decoded: cut short or damaged")


@contextmanager
def open_video(
    path: Path,
) -> Iterator[tuple["av.container.InputContainer", "av.video.stream.VideoStream"]]:
    """Open a file and its video stream; what fails inside is a :class:`VideoError`.

    Raises:
        VideoError: missing or unreadable, without a video stream, of a codec that this PyAV does
            not know, or what is decoded meanwhile is damaged.
    """
    import av
    import av.error

    if not path.is_file():
        raise VideoError(f"no video '{path}'")
    try:
        _check_claims(path)
        # "file:" lets names hold colons, which else stand for protocols.
        container = av.open(
            f"file:{path}",
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
        )
    except PermissionError:
        raise VideoError(f"{path.name} may not be read: change its permissions") from None
    except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError):
        raise VideoError(
            f"{path.name} cannot be opened: cut short, damaged or not a video"
        ) from None
    try:
        with container:
            yield container, _choose(path, container)
    except av.FFmpegError as error:
        if error.errno == errno.ENOSYS or isinstance(error, av.error.PatchWelcomeError):
            raise _unknown_codec(path) from None
        raise cannot_decode(path) from None
    except (OSError, ValueError, OverflowError, MemoryError):
        raise cannot_decode(path) from None


def _check_claims(path: Path) -> None:
    claims, size = read_claims(path), path.stat().st_size
    if claims.edits > _MOST_EDITS:
        raise VideoError(
            f"{path.name} has an edit list of {claims.edits} entries, more than {_MOST_EDITS}: it"
            " is damaged, or must be re-encoded"
        )
    if claims.samples > max(size, _FEW_SAMPLES):
        raise VideoError(
            f"{path.name} claims {claims.samples} frames in {size} bytes: cut short or damaged"
        )


def _choose(path: Path, container: "av.container.InputContainer") -> "av.video.stream.VideoStream":
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams:
        cover = " but a cover picture" if container.streams.video else ""
        raise VideoError(f"{path.name} has no video stream{cover}")
    # FFmpeg takes the default stream as well; most pixels and the first break ties.
    stream = max(
        streams,
        key=lambda s: (
            not _accompanies(s),
            bool(s.disposition & Disposition.default),
            _pixels(s),
            -s.index,
        ),
    )
    # None, whatever the types say, where this build of FFmpeg has no decoder.
    if stream.codec_context is None:
        raise _unknown_codec(path)
    if _pixels(stream) > _MOST_PIXELS:
        raise _too_large(path, stream.codec_context.width, stream.codec_context.height)
    # Loaders run one process per core already; one thread also decodes the same everywhere.
    stream.codec_context.thread_count = 1
    return stream


def _accompanies(stream: "av.video.stream.VideoStream") -> bool:
    """Whether a stream comes along with the video: depth, alpha, an enhancement, a still."""
    from av.stream import Disposition

    extras = Disposition.dependent | Disposition.still_image | Disposition.metadata
    if stream.disposition & extras:
        return True
    names = " ".join(str(stream.metadata.get(key, "")) for key in ("title", "handler_name"))
    if any(word in names.lower() for word in ("depth", "disparity", "alpha", "thumbnail")):
        return True
    return stream.codec_context is not None and str(stream.codec_context.pix_fmt).startswith("gray")


def _pixels(stream: "av.video.stream.VideoStream") -> int:
    context = stream.codec_context
    return 0 if context is None else context.width * context.height


def check_size(path: Path, frame: "av.VideoFrame") -> None:
    """Refuse a frame that no codec's level allows, before it is converted."""
    if frame.width * frame.height > _MOST_PIXELS:
        raise _too_large(path, frame.width, frame.height)


def _too_large(path: Path, width: int, height: int) -> VideoError:
    return VideoError(
        f"{path.name} claims pictures of {width} x {height} pixels, more than 16384 x 8704: it is"
        " damaged, or must be scaled down"
    )


def _unknown_codec(path: Path) -> VideoError:
    import av

    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(max(path.stat().st_size - (1 << 20), 0))
        ends = head + file.read()
    name = next((name for mark, name in _CODEC_MARKS.items() if mark in ends), None)
    what = f"is {name}, which" if name else "is of a codec that"
    return VideoError(
        f"{path.name} {what} this PyAV ({av.__version__}) cannot decode: re-encode it, for example"
        f" 'ffmpeg -i {path.name} -c:v libx264 -crf 12 h264.mp4'"
    )
