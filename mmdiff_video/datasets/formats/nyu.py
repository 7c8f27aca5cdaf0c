"""NYU Depth v2: the labelled ``.mat``, or pictures and 16-bit depth pictures in folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.formats.writing import write_list
from mmdiff_video.datasets.lists import read_list
from mmdiff_video.datasets.names import (
    Folders,
    NotFoundError,
    key_of,
    several,
    shown,
    why_missing,
)
from mmdiff_video.datasets.picture_decoding import reading
from mmdiff_video.datasets.picture_files import is_picture
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import Classes, LabelledImage, LoadedImages
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.datasets.pictures.pairing import Entry, label_suffixes, listed_pair, pair_up
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped

_MAT = "nyu_depth_v2_labeled.mat"
_PICTURE, _DEPTH = "_rgb", "_depth"
_TRAIN_SHARE = 0.8
_SPLIT_SEED = 0


def load_nyu(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Load a split of whatever lies in the root; ``labels`` are always depth.

    In this order: the ``.mat``; a list ``SPLIT.txt`` of picture and depth paths (a third column is
    ignored); a folder ``SPLIT`` of ``NAME_rgb.jpg`` and ``NAME_depth.png``.

    Raises:
        InputError: none of these, a list that is not UTF-8, or a damaged ``.mat``.
    """
    if why_missing(root / _MAT) is None:
        return _load_mat(root, split)
    listed, folders = root / f"{split}.txt", Folders()
    if why_missing(listed) is None:
        found = [_listed_entry(folders, root, line, labels) for _, line in read_list(listed)]
    else:
        found = _folder_entries(folders, root / split, labels)
        if not found:
            raise InputError(
                f"neither '{_MAT}', '{listed.name}' nor '{split}/*{_PICTURE}.jpg' is in"
                f" '{shown(root)}'; {card.title} must lie so:\n{card.layout.rstrip()}"
            )
    return LoadedImages(*pair_up(found, labels.decoder(card, None)))


def _listed_entry(folders: Folders, root: Path, line: str, labels: Labels) -> Entry | Skipped:
    try:
        pair = listed_pair(folders, root, line, labels)
    except NotFoundError as error:
        return Skipped(key_of(line), str(error))
    if pair is None:
        return Skipped(key_of(line), "the line has not the paths of a picture and its depth")
    name, image, depth = pair
    # the same name may come in the folder of another room, so that the folder is part of the key;
    # "image", the folder of all pictures of a written set, is not
    inner = Path(name.lstrip("/")).with_suffix("")
    key = inner.name if inner.parent.as_posix() in (".", "image") else inner.as_posix()
    return Entry(key_of(key), image, depth)


def _folder_entries(folders: Folders, folder: Path, labels: Labels) -> list[Entry | Skipped]:
    found: list[Entry | Skipped] = []
    for stem, paths in folders.files(folder).items():
        pictures = [path for path in paths if is_picture(path)]
        if stem.endswith(_PICTURE) and pictures:
            name = stem.removesuffix(_PICTURE)
            found.append(_folder_entry(folders, name, pictures, labels))
        elif stem.endswith(_DEPTH):
            name = stem.removesuffix(_DEPTH)
            if f"{name}{_PICTURE}" not in folders.files(folder):
                found.append(Skipped(key_of(name), f"no picture for '{shown(paths[0])}'"))
    return found


def _folder_entry(
    folders: Folders, name: str, pictures: Sequence[Path], labels: Labels
) -> Entry | Skipped:
    if len(pictures) > 1:
        return Skipped(key_of(name), several(pictures))
    try:
        stem, suffixes = f"{name}{_DEPTH}", label_suffixes(labels)
        depth = folders.find(pictures[0].parent, stem, suffixes)
        return Entry(key_of(name), pictures[0], depth)
    except NotFoundError as error:
        return Skipped(key_of(name), str(error))


@dataclass(frozen=True)
class MatPair:
    """One of the 1,449 labelled pictures, 640x480: colour and the depth as it was measured.

    Attributes:
        path: of the ``.mat``.
        index: of the picture in it, from 0.
    """

    path: Path
    index: int

    @property
    def place(self) -> str:
        return f"{self.path}#{self.index}"

    def read_image(self) -> NDArray[np.uint8]:
        image = self._stored(("images",), "images are uint8 [N, 3, W, H]", "u1", 3)
        return image.transpose(2, 1, 0)  # from [3, W, H]

    def read(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        # without the hole filling of "depths"; 0 where nothing was measured
        names = ("rawDepths", "depths")
        depth = self._stored(names, "depths are floats [N, W, H]", "f", 2)
        return self.read_image(), depth.T[None].astype(np.float32)

    def _stored(self, names: Sequence[str], form: str, kind: str, axes: int) -> NDArray[Any]:
        """Read what lies under the first of the names that the file has."""
        h5py = _h5py()
        with reading(f"{shown(self.path.name)}, picture {self.index + 1}"):
            with h5py.File(self.path) as file:
                name = next((name for name in names if name in file), names[-1])
                values = np.asarray(file[name][self.index])
            if values.ndim != axes or values.dtype.str[1:] not in (kind, f"{kind}4", f"{kind}8"):
                raise ValueError(f"{form}, not {values.dtype} [N, {list(values.shape)}]")
            return values


def _load_mat(root: Path, split: str) -> LoadedImages:
    path, h5py = root / _MAT, _h5py()
    try:
        with h5py.File(path) as file:
            count = int(file["images"].shape[0])
    # h5py is known to raise almost anything on hostile bytes
    except Exception as error:
        raise InputError(f"'{shown(path)}' is damaged or no labelled NYU file: {error}") from None
    members, note = _mat_split(root, split, count)
    images = [LabelledImage(key=f"{i + 1:04d}", pair=MatPair(path, i)) for i in members]
    return LoadedImages(images, [], note=note)


def _mat_split(root: Path, split: str, count: int) -> tuple[list[int], str]:
    """Choose 0-based numbers: the official split where its file is there, else 80/20 by a seed."""
    path = root / "splits.mat"
    if why_missing(path) is None:
        from scipy.io import loadmat

        try:
            numbers = sorted({int(n) for n in loadmat(str(path))[f"{split}Ndxs"].reshape(-1)})
        # scipy is known to raise almost anything on hostile bytes
        except Exception as error:
            raise InputError(f"'{shown(path)}' is damaged or no split of NYU: {error}") from None
        if numbers and not 1 <= numbers[0] <= numbers[-1] <= count:
            raise InputError(
                f"'{shown(path)}' names pictures {numbers[0]} to {numbers[-1]} of 1 to {count}"
            )
        return [n - 1 for n in numbers], "the official split (splits.mat)"
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    border = int(count * _TRAIN_SHARE)
    members = order[:border] if split == "train" else order[border:]
    note = "not the official split, for want of splits.mat: a seeded choice of 80 % to train on"
    return sorted(int(n) for n in members), note


@dataclass(frozen=True)
class NYULayout:
    """A :class:`mmdiff_video.datasets.formats.writing.PictureLayout`, of the form with lists."""

    splits: tuple[str, str] = ("train", "test")
    only: str | None = "depth"

    def picture(self, root: Path, split: str, name: str) -> Path:
        return root / "image" / f"{name}.jpg"

    def label(self, root: Path, split: str, name: str, kind: Labels) -> Path:
        return root / "depth" / f"{name}.png"

    def finish(
        self, root: Path, names: Mapping[str, Sequence[str]], classes: Classes | None
    ) -> None:
        """Write a list of picture and depth for each split."""
        for split, members in names.items():
            pairs = [f"image/{name}.jpg depth/{name}.png" for name in members]
            write_list(root / f"{split}.txt", pairs)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"reading {_MAT} needs h5py: pip install 'mmdiff-video[nyu]'") from None
    return h5py
