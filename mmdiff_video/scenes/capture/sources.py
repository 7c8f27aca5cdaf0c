"""What a capture is made of: a video, photographs, or pictures that have cameras already.

Each kind becomes a :class:`Source`, whose pictures are read one by one. What is wrong with one
picture is its reason in ``left_out``, and the others go on.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.formats.frame_sources import PictureFiles, VideoFile
from mmdiff_video.datasets.formats.re10k import open_clip
from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.picture_files import PictureError, is_picture, read_rgb
from mmdiff_video.datasets.video_reader import VideoError, count_frames, iterate_frames
from mmdiff_video.errors import InputError
from mmdiff_video.scenes.capture.frames import Frame, choose_frames, sharpest
from mmdiff_video.scenes.capture.settings import CaptureSettings
from recon.capture.capture import Photo, load_capture
from recon.capture.consistency import TRANSFORMS, WORLD_TO_CAMERA, Convention
from recon.io.colmap import find_model
from recon.io.format_error import FormatError
from recon.lenses import Lens

_FULL_FRAME = 36.0
"""Millimetres: the width of the film that EXIF's equivalent focal lengths refer to."""

_SAME_ASPECT = 0.01
"""How far the shape of a picture may be from that of its camera: a pixel of a small copy."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture as it was read.

    Attributes:
        name: path below the folder of pictures, with the ending that it has in the source.
        picture: uint8 [H, W, 3], upright.
        lens: of the camera that took it, for pictures of this size; None: not known.
        viewmat: [4, 4] float64, world-to-camera; None: not known.
        mask: file of what belongs to the scene (white), if there is one.
        focal: in pixels, as EXIF says; None: it says nothing.
    """

    name: str
    picture: NDArray[np.uint8]
    lens: Lens | None = None
    viewmat: Tensor | None = None
    mask: Path | None = None
    focal: float | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures of one scene, with or without cameras.

    Attributes:
        words: what it is, for reports.
        files: all that it is read from, to tell whether it has changed.
        count: of the pictures that it has.
        views: reads them, in order; fills ``left_out``.
        posed: whether they have cameras.
        ordered: whether they are frames of a video, in the order of time.
        left_out: picture -> why it cannot be used.
        convention: of its poses in the file.
        points, rgb: [N, 3] of the scene, where they are known.
    """

    words: str
    files: list[Path]
    count: int
    views: Callable[[], Iterator[View]]
    posed: bool
    ordered: bool
    left_out: dict[str, str] = field(default_factory=dict)
    convention: Convention = WORLD_TO_CAMERA
    points: Tensor = field(default_factory=lambda: torch.zeros(0, 3, dtype=torch.float64))
    rgb: Tensor = field(default_factory=lambda: torch.zeros(0, 3, dtype=torch.uint8))


def open_source(path: Path, settings: CaptureSettings) -> Source:
    """Tell what a path leads to; reads cameras, and no picture yet.

    Args:
        path: a video; a folder of photographs; a COLMAP project; a ``transforms.json`` or its
            folder; a RealEstate10K camera file, whose video is found where that data set has it.
        settings: how many frames of a video are wanted.

    Raises:
        InputError: there is nothing, or nothing of these, or it cannot be read.
    """
    try:
        if path.is_dir():
            if find_model(path) is not None or (path / "transforms.json").is_file():
                return _posed(path)
            return _photographs(path)
        if not path.exists():
            raise InputError(f"there is no '{path}'")
        if path.suffix.lower() == ".json":
            return _posed(path)
        if path.suffix.lower() == ".txt":
            return _clip(path, open_clip(path), settings)
        if is_picture(path):
            raise InputError(
                f"'{path}' is one picture, and a scene needs several: give their folder"
            )
        return _video(path, settings)
    except (FormatError, ClipError) as error:
        raise InputError(str(error)) from None


def _video(path: Path, settings: CaptureSettings) -> Source:
    def views() -> Iterator[View]:
        try:
            for frame in choose_frames(path, settings.frames):
                yield View(_frame(frame), frame.picture)
        except VideoError as error:
            raise InputError(str(error)) from None

    count = min(count_frames(path), settings.frames)
    return Source(f"video '{path}'", [path], count, views, posed=False, ordered=True)


def _photographs(folder: Path) -> Source:
    files = sorted(p for p in folder.iterdir() if is_picture(p) and p.is_file())
    if not files:
        raise InputError(
            f"'{folder}' holds no pictures, no COLMAP project (sparse/0/cameras.bin or .txt) and no"
            " transforms.json"
        )
    left_out: dict[str, str] = {}

    def views() -> Iterator[View]:
        for file in files:
            try:
                picture = read_rgb(file, upright=True)
            except PictureError as error:
                left_out[shown(file.name)] = str(error)
                continue
            yield View(file.name, picture, focal=_exif_focal(file, max(picture.shape[:2])))

    words = f"photographs in '{folder}'"
    return Source(words, files, len(files), views, posed=False, ordered=False, left_out=left_out)


def _posed(path: Path) -> Source:
    capture = load_capture(path)
    left_out = dict(capture.left_out)
    photos = capture.photos

    def views() -> Iterator[View]:
        for photo in photos:
            try:
                yield _view(photo)
            except PictureError as error:
                left_out[shown(photo.name)] = str(error)

    return Source(
        capture.source,
        [*_described_by(path), *(p for photo in photos for p in (photo.path, photo.mask) if p)],
        len(photos) + len(left_out),
        views,
        posed=True,
        ordered=False,
        left_out=left_out,
        convention=WORLD_TO_CAMERA if find_model(path) is not None else TRANSFORMS,
        points=capture.points,
        rgb=capture.rgb,
    )


def _described_by(path: Path) -> list[Path]:
    """The files that say where the cameras of a capture are."""
    if path.is_file():
        return [path]
    model = find_model(path)
    return [path / "transforms.json"] if model is None else sorted(model.glob("*"))


def _view(photo: Photo) -> View:
    """Read a picture, in the orientation and for the size that its lens is of.

    COLMAP and others take pixels as they are stored, so that the turn that EXIF asks for is made
    only where the lens is of the turned picture.
    """
    lens = photo.lens
    picture = read_rgb(photo.path)
    if not _fits(picture, lens):
        picture = read_rgb(photo.path, upright=True)
    height, width = picture.shape[:2]
    if not _fits(picture, lens):
        raise PictureError(
            f"it is {width}x{height}, and its camera makes pictures of {lens.width}x{lens.height}"
        )
    return View(photo.name, picture, lens.resized(width, height), photo.viewmat, photo.mask)


def _fits(picture: NDArray[np.uint8], lens: Lens) -> bool:
    height, width = picture.shape[:2]
    return abs(width * lens.height / (height * lens.width) - 1) < max(
        _SAME_ASPECT, 1 / min(width, height)
    )


def _clip(path: Path, clip: PosedClip, settings: CaptureSettings) -> Source:
    video = clip.frames.path if isinstance(clip.frames, VideoFile) else None
    files = list(clip.frames.paths) if isinstance(clip.frames, PictureFiles) else [video]
    scale = clip.intrinsics.new_tensor([clip.width, clip.height, clip.width, clip.height])

    def views() -> Iterator[View]:
        each = (clip.read([number])[0] for number in range(clip.num_frames))
        frames = each if video is None else iterate_frames(video)
        try:
            for frame in sharpest(frames, clip.num_frames, settings.frames):
                fx, fy, cx, cy = (clip.intrinsics[frame.number] * scale).tolist()
                lens = Lens(width=clip.width, height=clip.height, fx=fx, fy=fy, cx=cx, cy=cy)
                yield View(_frame(frame), frame.picture, lens, clip.viewmats[frame.number])
        except ClipError as error:
            raise InputError(str(error)) from None

    return Source(
        f"RealEstate10K clip '{path}'",
        [path, *(file for file in files if file is not None)],
        min(clip.num_frames, settings.frames),
        views,
        posed=True,
        ordered=True,
    )


def _frame(frame: Frame) -> str:
    return f"frame_{frame.number:06d}.png"


def _exif_focal(file: Path, longest_side: int) -> float | None:
    """Focal length in pixels from what EXIF gives as that of a 35 mm camera."""
    try:
        with Image.open(file) as image:
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
        millimetres = float(tags.get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
    # Pillow is known to raise almost anything on damaged EXIF; it says nothing then
    except Exception:
        return None
    return millimetres / _FULL_FRAME * longest_side if 5 <= millimetres <= 2000 else None


def plain_name(name: str, taken: Container[str]) -> str:
    """The name of a PNG copy: with the stem of the picture's, or more of it if that is taken.

    Args:
        name: path of the picture below its folder.
        taken: names of others in small letters, as some file systems know no capitals.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    tries = chain(
        (path.with_suffix(".png"), PurePosixPath(f"{path}.png")),
        (PurePosixPath(f"{path}.{number}.png") for number in count(2)),
    )
    return next(str(each) for each in tries if str(each).lower() not in taken)
