"""Tensors on disk, addressed by the hash of all that they depend on, within a budget.

One safetensors file per sample. A file carries a checksum: one that is cut short or has a flipped
bit is noticed, deleted and computed anew. Any number of processes may share a folder. What lies
there is the business of ``cached_extractor.py`` and ``dino.py``.
"""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmdiff_video.files import PARTIAL, remove_stale_partials, write_aside

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Part of every address: raise it when the meaning of an entry changes."""

_FILL = 0.95
"""Share of the budget that eviction makes room down to, so that it is not due at every entry."""


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
    """

    def __init__(self, root: Path, budget_gb: float):
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
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata.pop("checksum", None) != _checksum(tensors, metadata):
                raise ValueError("the checksum does not match")
            if metadata["address"] != address:
                raise ValueError("it holds another sample")
        except FileNotFoundError:
            self.stats.misses += 1
            return None
        except OSError as error:  # it may be whole, so it stays
            self.stats.misses += 1
            logger.warning("feature cache: cannot read entry %s: %s", path.name, error)
            return None
        except (SafetensorError, ValueError, KeyError) as error:
            self.stats.damaged += 1
            logger.warning("feature cache: recomputing a damaged entry %s: %s", path.name, error)
            _delete(path)
            return None
        self.stats.hits += 1
        with suppress(OSError):  # another user's file, a read-only folder
            os.utime(path)  # access times are often switched off
        return Entry(tensors, tuple(json.loads(metadata["sigmas"])))

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
        tensors = {name: t.cpu().contiguous() for name, t in entry.tensors.items()}
        size = sum(t.nbytes for t in tensors.values())
        if size > self.budget:
            self._go_on_without(
                f"one sample takes {size / 2**30:.3g} GiB, more than the whole budget of"
                f" {self.budget / 2**30:.3g} GiB"
            )
            return
        self._make_room(size)
        metadata = {"address": address, "sigmas": json.dumps(entry.sigmas)}
        metadata["checksum"] = _checksum(tensors, metadata)
        try:
            # the checksum stands in for a flush to disk, which would cost more than the writing
            with write_aside(self._path(address), flush=False) as aside:
                save_file(tensors, aside, metadata)
        except (OSError, SafetensorError) as error:
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
        for folder in self.root.glob("??"):
            remove_stale_partials(folder)
            for path in folder.glob("*.safetensors"):
                if path.name.startswith(PARTIAL):
                    continue
                with suppress(FileNotFoundError):  # another process evicted it
                    status = path.stat()
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
        "pixels": hashlib.sha256(_bytes(pixels)).hexdigest(),
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


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32 over the tensors' bytes, names, shapes and types, and over the metadata."""
    layout = [[n, str(t.dtype), list(t.shape)] for n, t in sorted(tensors.items())]
    crc = zlib.crc32(json.dumps([layout, sorted(metadata.items())]).encode())
    for _, tensor in sorted(tensors.items()):
        crc = zlib.crc32(_bytes(tensor), crc)
    return f"{crc:08x}"


def _bytes(tensor: Tensor) -> memoryview:
    """View a tensor's bytes, without a copy where it is contiguous and on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
