"""Means of named numbers, weighted by samples, mergeable over forwards, steps and processes."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Means:
    """Sums of named values and the samples behind each.

    A name that is missing in some forwards (a loss that only some samples have) is averaged over
    the forwards that have it.
    """

    def __init__(self, sums: Mapping[str, tuple[float, float]] | None = None):
        self.sums = {name: (value, weight) for name, (value, weight) in (sums or {}).items()}

    def add(self, values: Mapping[str, float | Tensor], weight: float) -> None:
        """Add the values of one forward over ``weight`` samples; one transfer from the device."""
        scalars = torch.stack([torch.as_tensor(v).detach().cpu().double() for v in values.values()])
        self.merge(
            Means({k: (v * weight, weight) for k, v in zip(values, scalars.tolist(), strict=True)})
        )

    def merge(self, other: "Means") -> None:
        """Add another's sums."""
        for name, (value, weight) in other.sums.items():
            total, count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (total + value, count + weight)

    def means(self) -> dict[str, float]:
        """Return name -> mean."""
        return {name: value / weight for name, (value, weight) in self.sums.items()}
