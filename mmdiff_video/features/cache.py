"""Tensors on disk, addressed by the hash of all that they depend on, within a budget.

One safetensors file per sample, with a checksum: one that is cut short or has a flipped bit is
noticed, deleted and computed anew. Any number of processes may share a folder. What lies there is
the business of ``cached_extractor.py`` and ``dino.py``.

    ROOT/CACHEDIR.TAG                 marks the folder as ours; backup programs know it as well
    ROOT/ab/ab12...ef.safetensors     an entry, named by its address of 64 hex digits

Nothing else in the folder is read, counted or deleted.
"""

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.files import PARTIAL, parse_json, remove_stale_partials, write_aside
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors, tensor_bytes

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Part of every address: raise it when the meaning of an entry changes."""

_FILL = 0.95
"""Share of the budget that eviction makes room down to, so that it is not due at every entry."""

_MARK = "CACHEDIR.TAG"

_MARKED = """\
Signature: 8a477f597d28d172789f06886806bc55
# A feature cache of mmdiff-video: it may be deleted at any time.
"""
"""What the mark says; its first line is that of the Cache Directory Tagging Specification."""

_FOLDER = re.compile(r"[0-9a-f]{2}")
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors")


@dataclass
class CacheStats:
    """What one process saw of the cache.

    Attributes:
        hits: samples read from disk.
        misses: samples that were not there, or could not be read.
        damaged: samples whose file was there but broken; computed anew, as misses are.
        evicted: entries deleted to keep to the budget.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    evicted: int = 0

    def __str__(self) -> str:
        return (
            f"{self.hits} hits, {self.misses} misses, {self.damaged} damaged entries recomputed,"
            f" {self.evicted} evicted"
        )


@dataclass(frozen=True)
class Entry:
    """What is kept of one sample.

    Attributes:
        tensors: of a backbone ``latent`` [c, F, h, w] and, where concepts were asked for,
            ``concepts`` [K, F, H, W], both float32; the packed maps of every tap, see
            ``cache_forms.py``.
        sigmas: the sigmas actually tapped.
    """

    tensors: Mapping[str, Tensor]
    sigmas: tuple[float, ...]


class FeatureCache:
    """A folder of entries under a disk budget; the least recently used go first.

    Args:
        root: the folder, made when something is stored; several processes may share it.
        budget_gb: most GiB on disk. Several processes together may exceed it for a moment by what
            they are writing.

    Raises:
        InputError: the folder holds anything else than a feature cache.
    """

    def __init__(self, root: Path, budget_gb: float):
        _refuse_other_folder(root)
        self.root = root
        self.budget = int(budget_gb * 2**30)
        self.stats = CacheStats()
        # how much may be stored before the folder is measured again
        self._unmeasured = 0
        self._warned = False

    def load(self, address: str) -> Entry | None:
        """Read an entry and mark it as used; None when it is missing, unreadable or broken."""
        path = self._path(address)
        try:
            tensors, metadata = load_tensors(path, checksum_required=True)
            if metadata["address"] != address:
                raise DamagedError("it holds another sample")
            sigmas = tuple(float(sigma) for sigma in parse_json(metadata["sigmas"]))
        except FileNotFoundError:
            self.stats.misses += 1
            return None
        except OSError as error:  # it may be whole, so it stays
            self.stats.misses += 1
            logger.warning("feature cache: cannot read entry %s: %s", path.name, error)
            return None
        except (DamagedError, KeyError, ValueError, TypeError) as error:
            self.stats.damaged += 1
            logger.warning("feature cache: recomputing a damaged entry %s: %s", path.name, error)
            _delete(path)
            return None
        self.stats.hits += 1
        with suppress(OSError):  # another user's file, a read-only folder
            os.utime(path)  # access times are often switched off
        return Entry(tensors, sigmas)

    def fetch(
        self, addresses: Sequence[str], make: Callable[[list[int]], Sequence[Entry]]
    ) -> list[Entry]:
        """Read entries; those that are not there are made all at once, and stored.

        Args:
            addresses: what is wanted.
            make: makes the entries of some of the addresses, given their places in the list.
        """
        entries = {address: self.load(address) for address in dict.fromkeys(addresses)}
        missing = [i for i, address in enumerate(addresses) if entries[address] is None]
        if missing:
            for i, entry in zip(missing, make(missing), strict=True):
                self.store(addresses[i], entry)
                entries[addresses[i]] = entry
        return [entry for entry in (entries[a] for a in addresses) if entry is not None]

    def store(self, address: str, entry: Entry) -> None:
        """Write an entry, deleting old ones to make room.

        An entry larger than the whole budget, or a full disk, is said once and costs no more than
        the entry: the run goes on without it.
        """
        size = sum(t.nbytes for t in entry.tensors.values())
        if size > self.budget:
            self._go_on_without(
                f"one sample takes {size / 2**30:.3g} GiB, more than the whole budget of"
                f" {self.budget / 2**30:.3g} GiB"
            )
            return
        metadata = {"address": address, "sigmas": json.dumps(entry.sigmas)}
        try:
            _mark(self.root)
            self._make_room(size)
            # the checksum stands in for a flush to disk, which would cost more than the writing
            with write_aside(self._path(address), flush=False) as aside:
                save_tensors(aside, entry.tensors, metadata)
        except OSError as error:
            self._go_on_without(f"cannot write to {self.root} ({error})")

    def _path(self, address: str) -> Path:
        return self.root / address[:2] / f"{address}.safetensors"

    def _make_room(self, size: int) -> None:
        """Keep to the budget, measuring the folder only when what was added since may matter."""
        self._unmeasured -= size
        if self._unmeasured >= 0:
            return
        entries = self._entries()
        total = sum(entry_size for _, entry_size, _ in entries)
        if total + size > self.budget:
            for _, entry_size, path in sorted(entries):
                if total + size <= _FILL * self.budget:
                    break
                if _delete(path):
                    total -= entry_size
                    self.stats.evicted += 1
        # other processes fill the same folder: measure again well before it is full
        self._unmeasured = (self.budget - total - size) // 8

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of every entry; clears what dead processes left."""
        entries = []
        for folder in filter(_is_folder, self.root.iterdir()):
            remove_stale_partials(folder)
            for path in folder.iterdir():
                if _is_entry(path):
                    with suppress(FileNotFoundError):  # another process evicted it
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode):
                            entries.append((status.st_mtime, status.st_size, path))
        return entries

    def _go_on_without(self, reason: str) -> None:
        if not self._warned:
            logger.warning("feature cache: %s: going on without caching", reason)
        self._warned = True


def address_of(clip: Tensor, ingredients: Mapping[str, Any]) -> str:
    """Hash the pixels of a clip [3, F, H, W] and what else an entry depends on (plain values)."""
    pixels = clip.detach().float().cpu().contiguous()
    whole = {
        "format": _FORMAT,
        "size": list(clip.shape[1:]),
        "pixels": hashlib.sha256(tensor_bytes(pixels)).hexdigest(),
        **ingredients,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _delete(path: Path) -> bool:
    """Delete a file; False where that is not allowed, as in a read-only folder."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _refuse_other_folder(root: Path) -> None:
    """Let pass a folder that is missing, empty or marked, and a cache of before there were marks.

    Raises:
        InputError: it holds anything else.
    """
    try:
        if _is_marked(root):
            return
        # file managers leave hidden ones, and so does another process that is about to mark it
        foreign = next(
            (
                path
                for path in root.iterdir()
                if not path.name.startswith(".") and not _is_old_cache(path)
            ),
            None,
        )
    except OSError:  # missing, no folder, not readable: what is stored there will say so
        return
    if foreign is not None:
        raise InputError(
            f"cache.dir: '{root}' holds other files than a feature cache, such as '{foreign.name}':"
            " name a new or empty folder, for instance one inside it"
        )


def _is_marked(root: Path) -> bool:
    try:
        return (root / _MARK).read_bytes()[: len(_MARKED)] == _MARKED.encode()
    except FileNotFoundError:
        return False


def _mark(root: Path) -> None:
    if not _is_marked(root):
        with write_aside(root / _MARK, flush=False) as aside:
            aside.write_text(_MARKED, encoding="utf-8")


def _is_old_cache(path: Path) -> bool:
    """Whether something in a folder is what version 0.1 made there."""
    return _is_folder(path) and all(
        _is_entry(inside) or inside.name.startswith(PARTIAL) for inside in path.iterdir()
    )


def _is_folder(path: Path) -> bool:
    return bool(_FOLDER.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _is_entry(path: Path) -> bool:
    return bool(_ENTRY.fullmatch(path.name)) and path.name[:2] == path.parent.name
