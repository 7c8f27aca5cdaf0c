"""Relocation of 3DGS-MCMC: put a dead Gaussian where another is, and let the pair look the same.

Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo" (2024), Eq. 9.
"""

import functools
import math

import torch
from torch import Tensor

MOST_COPIES = 51
"""Of one Gaussian, in one relocation: as in the paper's code."""


def split_evenly(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scales of each of N equal Gaussians that replace one at its place.

    Args:
        opacities: [M] in (0, 1).
        scales: [M, 3].
        copies: [M] int, N >= 1; more than :data:`MOST_COPIES` count as that many.

    Returns:
        new opacities [M] and scales [M, 3].
    """
    copies = copies.clamp(1, MOST_COPIES)
    old = opacities.double()
    new = 1 - (1 - old).pow(1 / copies)
    powers = new[:, None] ** torch.arange(1, MOST_COPIES + 1, device=new.device)
    series = powers @ _series().to(new.device).T  # [M, MOST_COPIES]: the inner sum for each i
    total = series.cumsum(1).gather(1, copies[:, None] - 1)[:, 0]
    return new.to(opacities), scales * (old / total)[:, None].to(scales)


@functools.cache
def _series() -> Tensor:
    """Coefficients of o^(k + 1) in the inner sum for i = 1, 2, ...: [i - 1, k]."""
    table = torch.zeros(MOST_COPIES, MOST_COPIES, dtype=torch.float64)
    for i in range(MOST_COPIES):
        for k in range(i + 1):
            table[i, k] = math.comb(i, k) * (-1) ** k / math.sqrt(k + 1)
    return table
