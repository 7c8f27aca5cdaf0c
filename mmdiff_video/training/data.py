"""The order in which samples are trained on: a function of the seed and the step, nothing else.

So a resumed run sees what the uninterrupted one would have, and N processes share out the same
global batch that one process with N times the batch would have.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from mmdiff_video.seeds import stable_seed
from mmdiff_video.skipped import Skipped
from mmdiff_video.training.signals import ignore_stop_signals


class TrainingSet(Protocol):
    """What a task gives to train on."""

    def __len__(self) -> int:
        """Number of samples, broken ones included."""
        ...

    def sample(self, index: int, epoch: int) -> Any:
        """Read one sample: a function of (index, epoch) alone, or :class:`Skipped`.

        Anything random about it (frames, crops) is drawn from (index, epoch) and the set's seed.
        """
        ...


@dataclass(frozen=True)
class Share:
    """One process's part of one forward.

    Attributes:
        batch: what ``collate`` made of the usable samples; None when there were none.
        count: how many usable samples.
        skipped: the others.
    """

    batch: Any
    count: int
    skipped: tuple[Skipped, ...]


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(stable_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator).tolist()


def sample_at(position: int, size: int, seed: int) -> tuple[int, int]:
    """Return (index, epoch) of the sample at a position of the endless shuffled stream."""
    epoch, within = divmod(position, size)
    return _permutation(size, seed, epoch)[within], epoch


@dataclass(frozen=True)
class Shares:
    """Batch sampler: this process's (index, epoch) pairs, forward after forward.

    Attributes:
        size: samples in the set.
        batch_size: samples in one forward of one process.
        rounds: forwards of each process in a step.
        processes: how many there are.
        process: which of them this is, from 0.
        seed: of the order.
        first: steps done before.
        steps: steps in all.
    """

    size: int
    batch_size: int
    rounds: int
    processes: int
    process: int
    seed: int
    first: int
    steps: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for forward in range(self.first * self.rounds, self.steps * self.rounds):
            start = (forward * self.processes + self.process) * self.batch_size
            yield [sample_at(start + i, self.size, self.seed) for i in range(self.batch_size)]

    def __len__(self) -> int:
        return max(self.steps - self.first, 0) * self.rounds


class _Tickets(Dataset):
    """Lets a DataLoader ask a training set for (index, epoch)."""

    def __init__(self, samples: TrainingSet):
        self.samples = samples

    def __getitem__(self, ticket: tuple[int, int]) -> Any:
        return self.samples.sample(*ticket)


class _Collate:
    """Parts the broken samples from the usable ones. A class, so that workers can pickle it."""

    def __init__(self, collate: Callable[[list[Any]], Any]):
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Share:
        skipped = tuple(s for s in samples if isinstance(s, Skipped))
        usable = [s for s in samples if not isinstance(s, Skipped)]
        return Share(self.collate(usable) if usable else None, len(usable), skipped)


def share_loader(
    samples: TrainingSet,
    shares: Shares,
    collate: Callable[[list[Any]], Any],
    workers: int,
) -> DataLoader:
    """Read :class:`Share` after share, in ``workers`` processes ahead of the training."""
    return DataLoader(
        _Tickets(samples),
        batch_sampler=shares,  # type: ignore[arg-type]
        collate_fn=_Collate(collate),
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
        # its own generator: the default one would be drawn from at a place that resuming moves
        generator=torch.Generator().manual_seed(shares.seed),
    )
