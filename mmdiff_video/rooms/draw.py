"""Random draws that come out the same on every machine and numpy version."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

DIGITS = 4
"""Decimals that scene descriptions keep: tenths of a millimetre."""


class Draw:
    """A seeded source of choices.

    Everything comes from ``Generator.random`` alone: numpy may change the streams of its other
    methods between versions. Results are rounded, so that a last digit that differs (fused
    multiply-add) cannot show.
    """

    def __init__(self, *key: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def uniform(self, low: float, high: float) -> float:
        """Draw from [low, high], rounded to :data:`DIGITS` decimals."""
        return round(low + (high - low) * float(self._rng.random()), DIGITS)

    def integer(self, low: int, high: int) -> int:
        """Draw from low..high, both included."""
        return low + int(self._rng.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Say yes with this probability."""
        return bool(self._rng.random() < probability)

    def sign(self) -> int:
        """Draw -1 or 1."""
        return -1 if self._rng.random() < 0.5 else 1

    def pick(self, options: Sequence[_T]) -> _T:
        """Draw one of the options, all alike; name one twice to make it likelier."""
        return options[int(self._rng.random() * len(options))]

    def shuffled(self, options: Sequence[_T]) -> list[_T]:
        """Draw an order."""
        left = list(options)
        return [left.pop(int(self._rng.random() * len(left))) for _ in range(len(left))]
