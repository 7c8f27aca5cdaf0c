"""Flow matching's settings, and the distributions of its timesteps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdiff_video.errors import InputError, unknown_name

_SMALLEST_T = 1e-6
"""In place of 0, which torch.rand may give: the velocity to a predicted sample is divided by t."""


def logit_normal(count: int, device: torch.device) -> Tensor:
    """Few timesteps near either end: the sigmoid of a unit normal (Esser et al. 2024, 3.1)."""
    return torch.randn(count, device=device).sigmoid()


def uniform(count: int, device: torch.device) -> Tensor:
    """All timesteps equally often."""
    return torch.rand(count, device=device)


TIMESTEPS: dict[str, Callable[[int, torch.device], Tensor]] = {
    "logit-normal": logit_normal,
    "uniform": uniform,
}
"""Name in a config -> (count, device) -> timesteps in [0, 1], [count], by torch's generator."""


def check_timesteps(name: str) -> None:
    """Refuse a name that is not in :data:`TIMESTEPS`.

    Raises:
        InputError: lists the valid ones.
    """
    if name not in TIMESTEPS:
        raise unknown_name("distribution of timesteps", name, TIMESTEPS)


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Flow matching: x_t = (1 - t) x_0 + t eps, target eps - x_0.

    Attributes:
        timesteps: the distribution of t, a name in :data:`TIMESTEPS`: ``logit-normal`` or
            ``uniform``.
        shift: moves the timesteps towards noise, t -> s t / (1 + (s - 1) t), as the family's
            scheduler does when it samples.
        prompt_dropout: share of the samples that get the empty prompt, so that classifier-free
            guidance has an unconditional prediction.
    """

    timesteps: str = "logit-normal"
    shift: float = 1.0
    prompt_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_timesteps(self.timesteps)
        if self.shift <= 0:
            raise InputError(f"flow.shift is {self.shift}: it must be above 0")
        if not 0 <= self.prompt_dropout <= 1:
            raise InputError(f"flow.prompt_dropout is {self.prompt_dropout}: it must be in [0, 1]")


def random_timesteps(count: int, config: FlowConfig, device: torch.device) -> Tensor:
    """Timesteps in (0, 1], shifted, [count], by torch's generator."""
    t = TIMESTEPS[config.timesteps](count, device)
    # rounding may lift the shifted t just above 1
    return (config.shift * t / (1 + (config.shift - 1) * t)).clamp(_SMALLEST_T, 1)
