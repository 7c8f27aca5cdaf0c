"""What pretraining reads: clips with captions, drawn once into a folder of shards.

    CORPUS/
        corpus.json           what the folder holds: the generator, its settings, the clips' size
        train-00000.npy       uint8 [_SHARD, F, H, W, 3], read through a memory map
        train-00000.json      the captions of its clips
        val-00000.npy ...

Drawing is slower than training reads, and a run must see the same clips when it goes on, here or
on another machine: so the folder is the data set, and can be carried. A shard is there or not;
drawing that was stopped goes on with the first that is missing, and asking for more clips adds
shards.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, remove_partials, write_aside, write_json
from mmdiff_video.locks import writer_in_turn
from mmdiff_video.resources import cache_dir
from mmdiff_video.tables import format_bytes

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")

Shard = TypeVar("Shard", bound=np.generic)
_MANIFEST = "corpus.json"
_SIZES = ("shard_clips", "frames", "height", "width")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """The clips that a model is trained on.

    Attributes:
        dir: the folder; None means one in the cache named after its contents.
        train_clips, val_clips: how many of each; val clips show rooms that training never sees.
        frames, height, width: size of a clip; one frame for an image model.
        walk: least and largest share of a room's walk that a clip covers: how fast the camera
            moves. Chosen by chance for each clip.
        seed: of the generator.
        shard_clips: clips drawn at a time and kept in one file.
    """

    dir: str | None = None
    train_clips: int = 4000
    val_clips: int = 128
    frames: int = 17
    height: int = 128
    width: int = 128
    walk: tuple[float, float] = (0.1, 0.7)
    seed: int = 0
    shard_clips: int = 64

    def __post_init__(self) -> None:
        for name in ("train_clips", "val_clips", "frames", "height", "width", "shard_clips"):
            if getattr(self, name) < 1:
                raise InputError(f"corpus.{name} is {getattr(self, name)}: it must be 1 or more")
        if not 0 < self.walk[0] <= self.walk[1] <= 1:
            raise InputError(f"corpus.walk is {list(self.walk)}: it must be a range in (0, 1]")


class ClipSource(Protocol):
    """What draws the captioned clips of a corpus."""

    @property
    def key(self) -> Mapping[str, Any]:
        """Name of the generator and its version: changes when an index gives other pixels."""
        ...

    def draw(
        self, split: str, indices: Sequence[int], config: CorpusConfig
    ) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """Give the clips [F, H, W, 3] of a split and their captions, in order."""
        ...


class Corpus:
    """Opens one split of a corpus folder.

    Args:
        folder: the corpus.
        split: ``train`` or ``val``.
        clips: use the first so many.

    Raises:
        InputError: the folder is no corpus, or has fewer clips.

    Attributes:
        manifest: what ``corpus.json`` says.
        captions: one for each clip.
    """

    def __init__(self, folder: Path, split: str, clips: int):
        self.folder, self.split = folder, split
        self.manifest = _read_manifest(folder)
        self.shard_clips: int = self.manifest["shard_clips"]
        shards = _shards(clips, self.shard_clips)
        missing = [i for i in shards if not _is_there(folder, split, i)]
        if missing:
            raise InputError(
                f"{folder}: {len(missing)} of {len(shards)} shards of '{split}' are missing;"
                " run the same command where the generator is, to draw them"
            )
        shape = (*(self.manifest[name] for name in _SIZES), 3)
        self._pixels: list[NDArray[np.uint8]] = [
            map_shard(_shard(folder, split, i, "npy"), np.uint8, shape) for i in shards
        ]
        self.captions: list[str] = [
            caption
            for i in shards
            for caption in _read_captions(_shard(folder, split, i, "json"), self.shard_clips)
        ][:clips]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def shards(self) -> int:
        """Number of shards; the last may hold more clips than are used."""
        return len(self._pixels)

    def shard(self, index: int) -> NDArray[np.uint8]:
        """Pixels [shard_clips, F, H, W, 3] of a whole shard, mapped, not read."""
        return self._pixels[index]

    def clip(self, index: int) -> NDArray[np.uint8]:
        """Pixels [F, H, W, 3] of a clip, mapped, not read."""
        shard, within = divmod(index, self.shard_clips)
        return self._pixels[shard][within]

    def key(self, index: int) -> str:
        """Name of a clip, which fixes the noise of its validation."""
        return f"{self.split}/{index}"


def open_corpora(config: CorpusConfig) -> dict[str, Corpus]:
    """Open both splits, by name, of the corpus in the folder that ``config.dir`` names.

    Raises:
        InputError: as :class:`Corpus`.
    """
    assert config.dir
    return {
        "train": Corpus(Path(config.dir), "train", config.train_clips),
        "val": Corpus(Path(config.dir), "val", config.val_clips),
    }


def holds_corpus(folder: str | None) -> bool:
    """Whether a folder has been made a corpus, finished or not."""
    return folder is not None and (Path(folder) / _MANIFEST).is_file()


def make_corpus(config: CorpusConfig, source: ClipSource) -> Path:
    """Draw the shards that are missing; returns the folder.

    Args:
        config: which clips; its ``dir`` None: a folder in the cache, named after its contents.
        source: draws them.

    Raises:
        InputError: the folder holds clips of other settings, or lacks some that only an older
            version of the generator could add.
    """
    manifest = {
        "generator": dict(source.key),
        **{k: getattr(config, k) for k in ("frames", "height", "width", "seed", "shard_clips")},
        "walk": list(config.walk),
    }
    folder = Path(config.dir) if config.dir else _default_folder(manifest)
    missing = _missing(folder, config)
    if (folder / _MANIFEST).is_file():
        _require_same(folder, manifest, complete=not any(missing.values()))
    if not any(missing.values()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    # another run may be drawing into the same cache: what it has done by then is not done again
    with writer_in_turn(folder, "drawing a corpus"):
        remove_partials(folder)
        missing = _missing(folder, config)
        write_json(folder / _MANIFEST, manifest)
        clip_bytes = config.frames * config.height * config.width * 3
        count = sum(map(len, missing.values())) * config.shard_clips
        logger.info(
            "drawing %d clips of %d x %dx%d into %s: %s",
            count,
            config.frames,
            config.height,
            config.width,
            folder,
            format_bytes(count * clip_bytes),
        )
        _draw_shards(folder, config, source, missing)
    return folder


def map_shard(file: Path, dtype: type[Shard], shape: tuple[int, ...]) -> NDArray[Shard]:
    """Map an array's file, without reading it.

    Raises:
        InputError: it is cut short, or not of this type and shape (-1: any size).
    """
    try:
        found = np.load(file, mmap_mode="r")
    # a damaged header fails in numpy, in its parser or in Python's
    except (ValueError, EOFError, SyntaxError, TokenError) as error:
        raise _damaged(file, error) from None
    sizes = found.shape if isinstance(found, np.ndarray) else ()
    fits = len(sizes) == len(shape) and all(
        want in (-1, size) for size, want in zip(sizes, shape, strict=True)
    )
    if not fits or found.dtype != dtype:
        raise _damaged(file, f"it holds {found.dtype} {list(sizes)}, not {list(shape)}")
    return found


def _damaged(file: Path, reason: object) -> InputError:
    return InputError(
        f"'{file}' is damaged ({reason}): delete it, and the same command makes it anew"
    )


def _read_captions(file: Path, count: int) -> list[str]:
    try:
        found = read_json(file)
    except (InputError, FileNotFoundError) as error:
        raise _damaged(file, error) from None
    if not (
        isinstance(found, list) and len(found) == count and all(isinstance(c, str) for c in found)
    ):
        raise _damaged(file, f"it is no list of {count} captions")
    return found


def _missing(folder: Path, config: CorpusConfig) -> dict[str, list[int]]:
    return {
        split: [
            i
            for i in _shards(getattr(config, f"{split}_clips"), config.shard_clips)
            if not _is_there(folder, split, i)
        ]
        for split in SPLITS
    }


def _is_there(folder: Path, split: str, index: int) -> bool:
    return all(_shard(folder, split, index, suffix).is_file() for suffix in ("npy", "json"))


def _draw_shards(
    folder: Path, config: CorpusConfig, source: ClipSource, missing: Mapping[str, Sequence[int]]
) -> None:
    started, done = time.monotonic(), 0
    total = sum(map(len, missing.values()))
    size = config.shard_clips
    shape = (size, config.frames, config.height, config.width, 3)
    for split, shards in missing.items():
        # one stream for all shards: to start one takes seconds
        clips = source.draw(
            split, [shard * size + i for shard in shards for i in range(size)], config
        )
        for shard in shards:
            pixels = np.empty(shape, np.uint8)
            captions = []
            for i, (clip, caption) in enumerate(islice(clips, size)):
                pixels[i] = clip
                captions.append(caption)
            assert len(captions) == size
            # the pixels last: a shard counts as there when they are
            write_json(_shard(folder, split, shard, "json"), captions)
            with write_aside(_shard(folder, split, shard, "npy")) as aside:
                np.save(aside, pixels)
            done += 1
            left = (time.monotonic() - started) / done * (total - done)
            logger.info("%s shard %d: %d of %d, left %.0f s", split, shard, done, total, left)


def _shards(clips: int, shard_clips: int) -> range:
    return range(-(-clips // shard_clips))


def _shard(folder: Path, split: str, index: int, suffix: str) -> Path:
    return folder / f"{split}-{index:05d}.{suffix}"


def _default_folder(manifest: Mapping[str, Any]) -> Path:
    text = json.dumps(manifest, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    size = "{frames}x{height}x{width}".format(**manifest)
    return cache_dir() / "corpora" / f"{size}-{key}"


def _require_same(folder: Path, wanted: Mapping[str, Any], *, complete: bool) -> None:
    found = _read_manifest(folder)
    for name, value in wanted.items():
        # a complete corpus of another version is data like any other
        if found.get(name) != value and not (name == "generator" and complete):
            raise InputError(
                f"{folder} holds clips of {name} {found.get(name)}, not {value};"
                " set corpus.dir to another folder"
            )


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        found = read_json(folder / _MANIFEST)
    except FileNotFoundError:
        raise InputError(f"{folder} is not a corpus: it has no {_MANIFEST}") from None
    sizes = [found.get(name) for name in _SIZES] if isinstance(found, dict) else []
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise InputError(
            f"{folder / _MANIFEST} does not say {', '.join(_SIZES)} above 0: is it a corpus?"
        )
    return found
