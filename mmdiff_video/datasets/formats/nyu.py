"""NYU Depth v2: the labelled ``.mat``, or pictures and 16-bit depth pictures in folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.datasets.formats.writing import write_list
from mmdiff_video.datasets.picture_files import PictureError, is_picture
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.labelled import (
    Classes,
    LabelledImage,
    LoadedImages,
    pair_up,
)
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError

_MAT = "nyu_depth_v2_labeled.mat"
_TRAIN_SHARE = 0.8
_SPLIT_SEED = 0


def load_nyu(card: ImageCard, root: Path, split: str, labels: Labels) -> LoadedImages:
    """Load a split of whatever lies in the root; ``labels`` are always depth.

    In this order: the ``.mat``; a list ``SPLIT.txt`` of picture and depth paths (a third column is
    ignored); a folder ``SPLIT`` of ``NAME_rgb.jpg`` and ``NAME_depth.png``.

    Raises:
        InputError: none of these, a list with an odd line, or a damaged ``.mat``.
    """
    if (root / _MAT).is_file():
        return _load_mat(root, split)
    listed = root / f"{split}.txt"
    decode = labels.decoder(card, None)
    if listed.is_file():
        return LoadedImages(*pair_up(_listed_pairs(root, listed), decode))
    pictures = sorted(path for path in (root / split).glob("*_rgb.*") if is_picture(path))
    if not pictures:
        raise InputError(
            f"neither '{_MAT}', '{listed.name}' nor '{split}/*_rgb.jpg' is in '{root}';"
            f" {card.title} must lie so:\n{card.layout.rstrip()}"
        )
    stems = [(path.stem.removesuffix("_rgb"), path) for path in pictures]
    found = [(stem, path, path.with_name(f"{stem}_depth.png")) for stem, path in stems]
    return LoadedImages(*pair_up(found, decode))


def _listed_pairs(root: Path, listed: Path) -> list[tuple[str, Path, Path]]:
    found = []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2:
            raise InputError(f"{listed}, line {number}: expected two paths, not '{line}'")
        image, depth = (root / word.lstrip("/") for word in words[:2])
        # the same name may come in the folder of another room, so that the folder is part of the
        # key; "image", the folder of all pictures of a written set, is not
        inner = Path(words[0].lstrip("/")).with_suffix("")
        key = inner.name if inner.parent.as_posix() in (".", "image") else inner.as_posix()
        found.append((key, image, depth))
    return found


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
        return self._stored("images").transpose(2, 1, 0)  # from [3, W, H]

    def read(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        # without the hole filling of "depths"; 0 where nothing was measured
        depth = self._stored("rawDepths", "depths")
        return self.read_image(), depth.T[None].astype(np.float32)

    def _stored(self, *names: str) -> NDArray[Any]:
        """Read what lies under the first of the names that the file has."""
        try:
            with _h5py().File(self.path) as file:
                name = next((name for name in names if name in file), names[-1])
                return file[name][self.index]
        except (OSError, KeyError, RuntimeError) as error:
            raise PictureError(f"{self.path.name}, picture {self.index}: {error}") from None


def _load_mat(root: Path, split: str) -> LoadedImages:
    path = root / _MAT
    try:
        with _h5py().File(path) as file:
            count = file["images"].shape[0]
    except (OSError, KeyError) as error:
        raise InputError(f"'{path}' is damaged or no labelled NYU file: {error}") from None
    members, note = _mat_split(root, split, count)
    images = [LabelledImage(key=f"{i + 1:04d}", pair=MatPair(path, i)) for i in members]
    return LoadedImages(images, [], note=note)


def _mat_split(root: Path, split: str, count: int) -> tuple[list[int], str]:
    """Choose 0-based numbers: the official split where its file is there, else 80/20 by a seed."""
    if (root / "splits.mat").is_file():
        from scipy.io import loadmat

        numbers = loadmat(str(root / "splits.mat"))[f"{split}Ndxs"].reshape(-1)
        return sorted(int(n) - 1 for n in numbers), "the official split (splits.mat)"
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
