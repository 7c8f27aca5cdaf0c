"""Chance that comes out the same on every machine and numpy version."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

DIGITS = 4
"""Decimals that scene descriptions keep: tenths of a millimetre."""


class Rng:
    """A seeded source of choices.

    Everything comes from ``Generator.random`` alone: numpy may change the streams of its other
    methods between versions. Results are rounded, so that a last digit that differs (fused
    multiply-add) cannot show.
    """

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def uniform(self, low: float, high: float) -> float:
        """A number from [low, high], rounded to :data:`DIGITS` decimals."""
        return round(low + (high - low) * float(self._generator.random()), DIGITS)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low..high, both included."""
        return low + int(self._generator.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Say yes with this probability."""
        return bool(self._generator.random() < probability)

    def sign(self) -> int:
        """-1 or 1."""
        return -1 if self._generator.random() < 0.5 else 1

    def pick(self, options: Sequence[_T]) -> _T:
        """One of the options, all as likely; one named twice is twice as likely."""
        return options[int(self._generator.random() * len(options))]

    def shuffled(self, options: Sequence[_T]) -> list[_T]:
        """The options in any order."""
        left = list(options)
        return [left.pop(int(self._generator.random() * len(left))) for _ in range(len(left))]
