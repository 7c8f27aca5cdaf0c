"""How rooms are written: in the layouts of RealEstate10K, VOC, NYU, DUTS and own folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmdiff_video.datasets.formats.duts import DUTSLayout
from mmdiff_video.datasets.formats.folders import FolderLayout
from mmdiff_video.datasets.formats.nyu import NYULayout
from mmdiff_video.datasets.formats.re10k import is_clip_written, write_clip
from mmdiff_video.datasets.formats.voc import VOCLayout
from mmdiff_video.datasets.formats.writing import PictureLayout, is_labelled, write_labelled
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.rooms.classes import CLASSES, VOID
from mmdiff_video.rooms.drawing import RoomClip
from mmdiff_video.tasks import TASKS

_CLASSES = Classes(
    tuple(entry.name for entry in CLASSES), tuple(entry.color for entry in CLASSES), VOID
)


class RoomLayout(Protocol):
    """One way to write rooms."""

    @property
    def splits(self) -> tuple[str, str]:
        """Which of train, val and test it has: the one to train on, and the held-out one."""
        ...

    @property
    def frames(self) -> int:
        """Frames per room, unless the user says otherwise."""
        ...

    @property
    def clips(self) -> bool:
        """Whether a room is one clip, not a picture per frame."""
        ...

    @property
    def labels(self) -> list[str]:
        """The kinds of labels that are written."""
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


@dataclass(frozen=True)
class Clips:
    """Posed clips in RealEstate10K's original layout."""

    splits: tuple[str, str] = ("train", "test")
    frames: int = 40
    clips: bool = True

    @property
    def labels(self) -> list[str]:
        return []

    def is_written(self, root: Path, split: str, key: str) -> bool:
        return is_clip_written(root, split, key)

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        write_clip(root, split, key, clip.rgb, clip.viewmats, clip.Ks, f"procedural:{key}")

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        """Write nothing: the folders are the lists."""


@dataclass(frozen=True)
class Stills:
    """Labelled pictures, one for each frame, with every kind of label the layout has room for."""

    layout: PictureLayout
    frames: int = 1
    clips: bool = False

    @property
    def splits(self) -> tuple[str, str]:
        return self.layout.splits

    @property
    def kinds(self) -> list[Labels]:
        """The kinds of labels that are written."""
        only = self.layout.only
        return [task.labels for name, task in TASKS.items() if only in (None, name)]

    @property
    def labels(self) -> list[str]:
        return [kind.name for kind in self.kinds]

    def is_written(self, root: Path, split: str, key: str) -> bool:
        return is_labelled(self.layout, root, split, key, self.kinds)

    def write(self, root: Path, split: str, key: str, clip: RoomClip) -> None:
        names = picture_names(key, len(clip.rgb))
        for i in reversed(range(len(names))):  # the key itself last: it says that all are there
            name = names[i]
            view = clip.frame(i)
            labels = [(kind, kind.drawn(view)) for kind in self.kinds]
            write_labelled(self.layout, root, split, name, view.rgb, labels, _CLASSES)

    def finish(self, root: Path, names: dict[str, list[str]]) -> None:
        self.layout.finish(root, names, _CLASSES)


LAYOUTS: dict[str, RoomLayout] = {
    "re10k": Clips(),
    "voc": Stills(VOCLayout()),
    "nyu": Stills(NYULayout()),
    "duts": Stills(DUTSLayout()),
    "folders": Stills(FolderLayout()),
}
"""Ways to write rooms, by the name of the layout."""


def picture_names(key: str, frames: int) -> list[str]:
    """Names of a room's pictures; the first is the key itself."""
    return [key, *(f"{key}_{i:03d}" for i in range(1, frames))]
