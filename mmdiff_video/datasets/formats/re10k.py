"""RealEstate10K, in its original layout and in pixelSplat's chunks.

Original: ``ROOT/<split>/<key>.txt`` beside ``ROOT/videos/<key>.mp4`` whose frame i belongs to the
i-th camera line. The video may also lie at ``videos/<split>/<key>.mp4`` or ``<split>/<key>.mp4``,
or be a folder ``<split>/<key>/`` of pictures named by their timestamps.

Chunks: ``ROOT/<split>/*.torch`` and ``ROOT/<split>/index.json``, read by
:mod:`~mmdiff_video.datasets.formats.pixelsplat`.

Hidden files are no clips. A clip that cannot be used is left out with its reason.
"""

import os
import random
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmdiff_video.datasets.clips.clip import ClipError, LoadedClips, PosedClip
from mmdiff_video.datasets.formats.camera_track import CameraTrack, read_camera_file
from mmdiff_video.datasets.formats.frame_sources import PictureFiles, VideoFile, posed_clip
from mmdiff_video.datasets.formats.pixelsplat import Chunks
from mmdiff_video.datasets.names import is_hidden, key_problem, shown, spelling
from mmdiff_video.datasets.video_reader import count_frames
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside, write_text
from mmdiff_video.skipped import Skipped

_CAMERAS, _CHUNK, _VIDEO = ".txt", ".torch", ".mp4"
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
    try:
        if not folder.is_dir():
            found = ", ".join(sorted(e.name for e in os.scandir(root) if e.is_dir()))
            raise InputError(
                f"data root '{root}' has no folder '{split}' (found: {found or 'none'})"
            )
        layout: _Layout = Chunks(folder) if _files(folder, _CHUNK) else _CameraFiles(root, split)
    except OSError as error:
        raise InputError(f"'{error.filename}' cannot be read: {error.strerror}") from None
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
                    if problem := key_problem(key):
                        raise ClipError(problem)
                    clips.append(layout.open(key))
                    bar.update()
                except ClipError as error:
                    skipped.append(Skipped(shown(key), shown(str(error))))
                except OSError as error:  # links that lead to themselves, missing permissions
                    reason = f"'{error.filename}' cannot be read: {error.strerror}"
                    skipped.append(Skipped(shown(key), shown(reason)))
    return LoadedClips(sorted(clips, key=lambda clip: clip.key), sorted(skipped))


# --- original layout ---------------------------------------------------------------------------


def open_clip(cameras: Path) -> PosedClip:
    """Read and check one clip by its camera file ``ROOT/<split>/<key>.txt``.

    Raises:
        ClipError: no such file, no video or pictures of it, or one of these that cannot be used.
    """
    cameras = cameras.absolute()
    files = _CameraFiles(cameras.parent.parent, cameras.parent.name)
    if cameras.stem not in files.keys():  # noqa: SIM118 (no mapping)
        raise ClipError(f"no camera file '{shown(cameras)}'")
    return files.open(cameras.stem)


class _CameraFiles:
    """Camera files of one split, with the videos or pictures that belong to them."""

    def __init__(self, root: Path, split: str) -> None:
        self._folder = root / split
        self._videos = (root / "videos", root / "videos" / split, self._folder)
        self._cameras = _files(self._folder, _CAMERAS)
        self._listed: dict[Path, dict[str, Path]] = {}

    def keys(self) -> list[str]:
        return sorted(self._cameras)

    def open(self, key: str) -> PosedClip:
        track = read_camera_file(self._cameras[key])
        for place in self._videos:
            if video := self._video(place, key):
                return posed_clip(key, track, VideoFile(video), count_frames(video))
        if (self._folder / key).is_dir():
            frames = _pictures(self._folder / key, track)
            return posed_clip(key, track, frames, len(track.timestamps))
        first, second, _ = self._videos
        raise ClipError(
            f"no video: neither {first / key}{_VIDEO} nor in {second} nor {self._folder}"
        )

    def _video(self, folder: Path, key: str) -> Path | None:
        """The video of a key, by its exact name or else by one that a person would take for it."""
        exact = folder / f"{key}{_VIDEO}"
        if exact.is_file():
            return exact
        if folder not in self._listed:
            videos = _files(folder, _VIDEO) if folder.is_dir() else {}
            self._listed[folder] = {spelling(stem): path for stem, path in videos.items()}
        found = self._listed[folder].get(spelling(key))
        return found if found and found.is_file() else None


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """What a folder holds under names of a suffix, in capitals too, by the names without it.

    Where two differ by their capitals only, the plain one is taken.
    """
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(folder), key=lambda name: (name.endswith(suffix), name)):
        stem, end = os.path.splitext(name)
        if end.lower() == suffix and not is_hidden(name):
            found[stem] = folder / name
    return found


def _pictures(folder: Path, track: CameraTrack) -> PictureFiles:
    with os.scandir(folder) as entries:
        paths = sorted(Path(e.path) for e in entries if e.is_file() and not is_hidden(e.name))
    by_time = {path.stem: path for path in paths if path.suffix.lower() in _PICTURE_SUFFIXES}
    names = [str(int(t)) for t in track.timestamps]
    missing = [name for name in names if name not in by_time]
    if missing:
        raise ClipError(
            f"{len(missing)} of {len(names)} pictures are missing, first {folder / missing[0]}.png"
        )
    return PictureFiles(tuple(by_time[name] for name in names))


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
