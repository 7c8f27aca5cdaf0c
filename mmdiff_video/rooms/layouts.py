"""How rooms lie on disk: in the layouts of RealEstate10K, VOC, NYU, DUTS and own folders."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmdiff_video.files import write_aside, write_text
from mmdiff_video.rooms.classes import CLASSES, VOID
from mmdiff_video.rooms.render import RoomClip

FPS = 10


class Layout(Protocol):
    """One way to write rooms."""

    @property
    def splits(self) -> tuple[str, str]:
        """Which of train, val and test it has: for training, and held out."""
        ...

    @property
    def frames(self) -> int:
        """Frames per room, unless the user says otherwise."""
        ...

    @property
    def clips(self) -> bool:
        """Whether a room is one clip, not a picture per frame."""
        ...

    def is_written(self, root: Path, split: str, key: str) -> bool:
        """Whether everything of a room is there."""
        ...

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        """Write a room's files, each in one step; what :meth:`is_written` asks for comes last."""
        ...

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """Write the lists of a complete data set; ``names``: split -> picture or clip names."""
        ...


# --- clips ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RE10KLayout:
    """``SPLIT/KEY.txt`` cameras, ``videos/KEY.mp4``, and ``depth/KEY.npz`` in millimetres."""

    splits: tuple[str, str] = ("train", "test")
    frames: int = 40
    clips: bool = True

    def is_written(self, root: Path, split: str, key: str) -> bool:
        """See :class:`Layout`."""
        return (root / split / f"{key}.txt").is_file()

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        """See :class:`Layout`."""
        _, height, width, _ = clip.rgb.shape
        with write_aside(root / "videos" / f"{key}.mp4", flush=False) as aside:
            write_video(aside, clip.rgb, width, height)
        with write_aside(root / "depth" / f"{key}.npz", flush=False) as aside:
            np.savez_compressed(aside, millimetres=_millimetres(clip.depth))
        write_text(root / split / f"{key}.txt", _camera_lines(key, clip))

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """See :class:`Layout`; the folders are the lists."""


def write_video(file: Path, pictures: Iterable[NDArray[np.uint8]], width: int, height: int) -> None:
    """Encode uint8 [H, W, 3] pictures as H.264, one video frame each, nearly lossless."""
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread makes the same bytes everywhere; a key frame every 10 makes seeking cheap.
        stream.options = {"crf": "12", "bf": "0", "g": "10", "threads": "1"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _camera_lines(key: str, clip: RoomClip) -> str:
    _, height, width, _ = clip.rgb.shape
    lines = [f"procedural:{key}"]
    for i, (view, K) in enumerate(zip(clip.viewmats, clip.Ks, strict=True)):
        numbers = [K[0, 0] / width, K[1, 1] / height, K[0, 2] / width, K[1, 2] / height, 0.0, 0.0]
        numbers += list(view[:3].reshape(-1))
        timestamp = i * 1_000_000 // FPS
        lines.append(" ".join([str(timestamp), *(f"{number:.9f}" for number in numbers)]))
    return "\n".join(lines) + "\n"


# --- pictures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VOCLayout:
    """``JPEGImages``, ``SegmentationClass`` (palette PNG) and ``ImageSets/Segmentation``."""

    splits: tuple[str, str] = ("train", "val")
    frames: int = 1
    clips: bool = False

    def is_written(self, root: Path, split: str, key: str) -> bool:
        """See :class:`Layout`."""
        return (root / "SegmentationClass" / f"{key}.png").is_file()

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        """See :class:`Layout`."""
        for i, name in _last_first(picture_names(key, len(clip.rgb))):
            _write_jpeg(root / "JPEGImages" / f"{name}.jpg", clip.rgb[i])
            _write_png(root / "SegmentationClass" / f"{name}.png", _label_picture(clip.labels[i]))

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """See :class:`Layout`; also ``classes.txt``: id, name and label colour."""
        for split, members in names.items():
            _write_list(root / "ImageSets" / "Segmentation" / f"{split}.txt", members)
        _write_classes(root)


@dataclass(frozen=True)
class NYULayout:
    """``image/NAME.jpg`` with ``depth/NAME.png`` (16 bits, millimetres); a list for each split."""

    splits: tuple[str, str] = ("train", "test")
    frames: int = 1
    clips: bool = False

    def is_written(self, root: Path, split: str, key: str) -> bool:
        """See :class:`Layout`."""
        return (root / "depth" / f"{key}.png").is_file()

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        """See :class:`Layout`."""
        for i, name in _last_first(picture_names(key, len(clip.rgb))):
            _write_jpeg(root / "image" / f"{name}.jpg", clip.rgb[i])
            _write_png(root / "depth" / f"{name}.png", _depth_picture(clip.depth[i]))

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """See :class:`Layout`."""
        for split, members in names.items():
            pairs = [f"image/{name}.jpg depth/{name}.png" for name in members]
            _write_list(root / f"{split}.txt", pairs)


@dataclass(frozen=True)
class DUTSLayout:
    """``DUTS-TR/DUTS-TR-Image`` with ``DUTS-TR/DUTS-TR-Mask``; ``DUTS-TE`` likewise."""

    splits: tuple[str, str] = ("train", "test")
    frames: int = 1
    clips: bool = False

    def _folders(self, root: Path, split: str) -> tuple[Path, Path]:
        part = {"train": "DUTS-TR", "test": "DUTS-TE"}[split]
        return root / part / f"{part}-Image", root / part / f"{part}-Mask"

    def is_written(self, root: Path, split: str, key: str) -> bool:
        """See :class:`Layout`."""
        return (self._folders(root, split)[1] / f"{key}.png").is_file()

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        """See :class:`Layout`."""
        images, masks = self._folders(root, split)
        for i, name in _last_first(picture_names(key, len(clip.rgb))):
            _write_jpeg(images / f"{name}.jpg", clip.rgb[i])
            _write_png(masks / f"{name}.png", _mask_picture(clip.saliency[i]))

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """See :class:`Layout`; the folders are the lists."""


@dataclass(frozen=True)
class FolderLayout:
    """``SPLIT/images`` with ``SPLIT/labels``, ``SPLIT/depth`` and ``SPLIT/masks``."""

    splits: tuple[str, str] = ("train", "test")
    frames: int = 1
    clips: bool = False

    def is_written(self, root: Path, split: str, key: str) -> bool:
        """See :class:`Layout`."""
        return (root / split / "masks" / f"{key}.png").is_file()

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        """See :class:`Layout`."""
        for i, name in _last_first(picture_names(key, len(clip.rgb))):
            _write_jpeg(root / split / "images" / f"{name}.jpg", clip.rgb[i])
            for folder, picture in (
                ("labels", _label_picture(clip.labels[i])),
                ("depth", _depth_picture(clip.depth[i])),
                ("masks", _mask_picture(clip.saliency[i])),
            ):
                _write_png(root / split / folder / f"{name}.png", picture)

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """See :class:`Layout`; also ``classes.txt``: id, name and label colour."""
        _write_classes(root)


LAYOUTS: dict[str, Layout] = {
    "re10k": RE10KLayout(),
    "voc": VOCLayout(),
    "nyu": NYULayout(),
    "duts": DUTSLayout(),
    "folders": FolderLayout(),
}


def picture_names(key: str, frames: int) -> list[str]:
    """Names of a room's pictures; the first is the key itself."""
    return [key, *(f"{key}_{i:03d}" for i in range(1, frames))]


def _last_first(names: Sequence[str]) -> list[tuple[int, str]]:
    """Number the names, last one first: the key itself then says that all are there."""
    return list(enumerate(names))[::-1]


def _millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.clip(depth * 1000 + 0.5, 0, 65535).astype(np.uint16)


def _label_picture(labels: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette(_palette())
    return picture


def _depth_picture(depth: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(_millimetres(depth))


def _mask_picture(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _palette() -> list[int]:
    colors = [0] * 768
    for i, entry in enumerate(CLASSES):
        colors[3 * i : 3 * i + 3] = entry.color
    colors[3 * VOID :] = (224, 224, 192)  # as in VOC
    return colors


def _write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    with write_aside(path, flush=False) as aside:
        Image.fromarray(picture).save(aside, quality=95)


def _write_png(path: Path, picture: Image.Image) -> None:
    with write_aside(path, flush=False) as aside:
        picture.save(aside)


def _write_classes(root: Path) -> None:
    lines = [f"{i} {c.name} {' '.join(map(str, c.color))}" for i, c in enumerate(CLASSES)]
    _write_list(root / "classes.txt", lines)


def _write_list(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
