"""RealEstate10K, in its original layout and in pixelSplat's chunks.

Original: ``ROOT/<split>/<key>.txt`` beside ``ROOT/videos/<key>.mp4`` whose frame i belongs to the
i-th camera line. The video may also lie at ``videos/<split>/<key>.mp4`` or ``<split>/<key>.mp4``,
or be a folder ``<split>/<key>/`` of pictures named by their timestamps.

Chunks: ``ROOT/<split>/*.torch``, each a list of dicts (key, url, timestamps [N], cameras [N, 18],
images: N tensors of encoded bytes), and ``ROOT/<split>/index.json`` from key to chunk.
"""

import functools
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mmdiff_video.datasets.clips.clip import (
    ClipError,
    FrameSource,
    LoadedClips,
    PosedClip,
)
from mmdiff_video.datasets.formats.camera_track import (
    ROW_NUMBERS,
    CameraTrack,
    read_camera_file,
    track_from_rows,
)
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.datasets.video_reader import count_frames, read_frames
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside, write_text
from mmdiff_video.skipped import Skipped

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class _Layout(Protocol):
    """One way in which the clips of a split lie on disk."""

    def keys(self) -> list[str]:
        """Keys of all clips; neighbours lie close to each other on disk."""
        ...

    def open(self, key: str) -> PosedClip:
        """Read and check one clip, or raise :class:`ClipError`."""
        ...


def load_re10k(
    root: Path, split: str, *, max_clips: int | None = None, split_seed: int = 0
) -> LoadedClips:
    """Find the clips of one split and check each one's cameras against its pictures.

    A clip that cannot be used is left out and listed with the reason; it may be that none is left.

    Args:
        root: the data root; its layout is told from the files in ``root/split``.
        split: ``train`` or ``test``; a sub-folder of the root.
        max_clips: take only so many usable clips, chosen by ``split_seed`` (the paper trains on
            1000 clips of ``train`` and scores on 200 of ``test``); None: all.
        split_seed: the choice depends on this, the split's name and the keys found, nothing else.

    Raises:
        InputError: no such folder, or no clips in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"no data root '{root}': it must hold {split}/<key>.txt with videos/<key>.mp4, or "
            f"pixelSplat chunks {split}/*.torch with {split}/index.json"
        )
    folder = root / split
    if not folder.is_dir():
        found = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir()))
        raise InputError(f"data root '{root}' has no folder '{split}' (found: {found or 'none'})")
    layout: _Layout = _Chunks(folder) if any(folder.glob("*.torch")) else _CameraFiles(root, split)
    keys = layout.keys()
    if not keys:
        raise InputError(f"'{folder}' holds neither camera files (<key>.txt) nor chunks (*.torch)")
    return _choose(layout, keys, max_clips, f"{split_seed}/{split}")


def _choose(layout: _Layout, keys: list[str], max_clips: int | None, seed: str) -> LoadedClips:
    """Open clips in a seeded order until enough are usable."""
    place = {key: i for i, key in enumerate(keys)}
    order = sorted(keys)
    random.Random(seed).shuffle(order)
    wanted = len(order) if max_clips is None else min(max_clips, len(order))
    clips: list[PosedClip] = []
    skipped: list[Skipped] = []
    with tqdm(total=wanted, desc="checking clips", unit="clip", disable=None, leave=False) as bar:
        while order and len(clips) < wanted:
            missing = wanted - len(clips)
            batch, order = order[:missing], order[missing:]
            for key in sorted(batch, key=place.__getitem__):
                try:
                    clips.append(layout.open(key))
                    bar.update()
                except ClipError as error:
                    skipped.append(Skipped(key, str(error)))
    return LoadedClips(sorted(clips, key=lambda clip: clip.key), sorted(skipped))


# --- original layout ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _CameraFiles:
    root: Path
    split: str

    def keys(self) -> list[str]:
        return sorted(path.stem for path in (self.root / self.split).glob("*.txt"))

    def open(self, key: str) -> PosedClip:
        folder = self.root / self.split
        track = read_camera_file(folder / f"{key}.txt")
        places = (self.root / "videos", self.root / "videos" / self.split, folder)
        for place in places:
            video = place / f"{key}.mp4"
            if video.is_file():
                return _posed_clip(key, track, VideoFile(video), count_frames(video))
        if (folder / key).is_dir():
            return _posed_clip(key, track, _pictures(folder / key, track), len(track.timestamps))
        raise ClipError(f"no video: neither {places[0] / key}.mp4 nor in {places[1]} nor {folder}")


@dataclass(frozen=True)
class VideoFile:
    """Frames of a video file."""

    path: Path

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return read_frames(self.path, indices)


@dataclass(frozen=True)
class PictureFiles:
    """Frames that lie as single pictures, in order."""

    paths: tuple[Path, ...]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return _decode_pictures([(self.paths[i].name, self.paths[i]) for i in indices])


def _pictures(folder: Path, track: CameraTrack) -> PictureFiles:
    by_time = {p.stem: p for p in folder.iterdir() if p.suffix.lower() in _PICTURE_SUFFIXES}
    names = [str(int(t)) for t in track.timestamps]
    missing = [name for name in names if name not in by_time]
    if missing:
        raise ClipError(
            f"{len(missing)} of {len(names)} pictures are missing, first {folder / missing[0]}.png"
        )
    return PictureFiles(tuple(by_time[name] for name in names))


# --- pixelSplat chunks -------------------------------------------------------------------------


class _Chunks:
    def __init__(self, folder: Path) -> None:
        index = folder / "index.json"
        if not index.is_file():
            raise InputError(f"'{folder}' holds chunks but no index.json (clip key -> chunk)")
        try:
            content = json.loads(index.read_text())
            self._chunk = {str(key): folder / str(name) for key, name in content.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{index} is no JSON object from clip key to chunk file: {error}"
            ) from None

    def keys(self) -> list[str]:
        return sorted(self._chunk, key=lambda key: (self._chunk[key], key))

    def open(self, key: str) -> PosedClip:
        chunk = self._chunk[key]
        item = _chunk_item(chunk, key)
        missing = [f for f in ("timestamps", "cameras", "images") if f not in item]
        if missing:
            raise ClipError(f"chunk {chunk.name}: the clip has no '{missing[0]}'")
        # Copies: what stays with the clip must not keep the mapped chunk open.
        timestamps, rows = item["timestamps"].clone(), item["cameras"].clone()
        if rows.ndim != 2 or rows.shape[1] != ROW_NUMBERS or len(rows) != len(timestamps):
            raise ClipError(
                f"chunk {chunk.name}: cameras are {tuple(rows.shape)} and timestamps "
                f"{tuple(timestamps.shape)}, expected [N, {ROW_NUMBERS}] and [N]"
            )
        track = track_from_rows(timestamps, rows, lambda i: f"chunk {chunk.name}, camera {i}")
        return _posed_clip(key, track, ChunkImages(chunk, key), len(item["images"]))


@dataclass(frozen=True)
class ChunkImages:
    """Encoded pictures of one clip inside a chunk."""

    chunk: Path
    key: str

    def read(self, indices: Sequence[int]) -> np.ndarray:
        images = _chunk_item(self.chunk, self.key)["images"]
        return _decode_pictures(
            [(f"image {i} of {self.chunk.name}", BytesIO(images[i].numpy())) for i in indices]
        )


# A mapped chunk costs address space and its index, not memory for its pictures. Every loader
# process keeps a few open, because one costs tens of milliseconds to open.
@functools.lru_cache(maxsize=4)
def _open_chunk(path: Path) -> dict[str, dict[str, Any]]:
    try:
        items = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {item["key"]: item for item in items}
    except FileNotFoundError:
        raise ClipError(f"no chunk '{path}'") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ClipError(
            f"chunk {path.name} cannot be read ({type(error).__name__}): cut short, damaged or not "
            "a pixelSplat chunk"
        ) from None


def _chunk_item(chunk: Path, key: str) -> dict[str, Any]:
    items = _open_chunk(chunk)
    if key not in items:
        raise ClipError(f"chunk {chunk.name} does not hold it, though index.json says so")
    return items[key]


# --- both --------------------------------------------------------------------------------------


def _posed_clip(key: str, track: CameraTrack, frames: FrameSource, count: int) -> PosedClip:
    """Join cameras and pictures; decodes the first frame to learn its size and that it works."""
    if count != len(track.viewmats):
        raise ClipError(f"{count} frames in the video but {len(track.viewmats)} cameras")
    height, width = frames.read([0]).shape[1:3]
    return PosedClip(
        key=key,
        intrinsics=track.intrinsics,
        viewmats=track.viewmats,
        height=height,
        width=width,
        frames=frames,
    )


def _decode_pictures(files: Sequence[tuple[str, Path | BytesIO]]) -> np.ndarray:
    """Decode (name for messages, file) pairs to uint8 [n, H, W, 3]."""
    pictures = []
    for name, file in files:
        try:
            pictures.append(read_rgb(file, name=name))
        except PictureError as error:
            raise ClipError(str(error)) from None
    if len({picture.shape for picture in pictures}) != 1:
        raise ClipError("its pictures differ in size")
    return np.stack(pictures)


# --- writing -----------------------------------------------------------------------------------

_FPS = 10
"""Frames per second of written videos."""


def is_clip_written(root: Path, split: str, key: str) -> bool:
    """Whether everything of a clip is there; :func:`write_clip` writes the cameras last."""
    return (root / split / f"{key}.txt").is_file()


def write_clip(
    root: Path,
    split: str,
    key: str,
    rgb: NDArray[np.uint8],
    viewmats: NDArray[np.float64],
    Ks: NDArray[np.float64],
    url: str,
) -> None:
    """Write a clip in the original layout, each file in one step.

    Args:
        root, split, key: where.
        rgb: uint8 [N, H, W, 3], both sides even.
        viewmats: [N, 4, 4] world-to-camera, OpenCV axes.
        Ks: [N, 3, 3], pixels.
        url: the first line of the camera file: where the clip is from.
    """
    _, height, width, _ = rgb.shape
    with write_aside(root / "videos" / f"{key}.mp4", flush=False) as aside:
        write_video(aside, rgb, width, height)
    lines = [url]
    for i, (view, K) in enumerate(zip(viewmats, Ks, strict=True)):
        numbers = [K[0, 0] / width, K[1, 1] / height, K[0, 2] / width, K[1, 2] / height, 0.0, 0.0]
        numbers += list(view[:3].reshape(-1))
        timestamp = i * 1_000_000 // _FPS
        lines.append(" ".join([str(timestamp), *(f"{number:.9f}" for number in numbers)]))
    write_text(root / split / f"{key}.txt", "".join(f"{line}\n" for line in lines))


def write_video(file: Path, pictures: Iterable[NDArray[np.uint8]], width: int, height: int) -> None:
    """Encode uint8 [H, W, 3] pictures as H.264, one video frame each, nearly lossless."""
    import av

    # "file:" lets names hold colons, which else stand for protocols
    with av.open(f"file:{file}", "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(_FPS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread makes the same bytes everywhere; a key frame every 10 makes seeking cheap.
        stream.options = {"crf": "12", "bf": "0", "g": "10", "threads": "1"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
