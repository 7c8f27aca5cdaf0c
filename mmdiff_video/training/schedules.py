"""How the learning rate goes on after the warm-up: what ``train.schedule`` names."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""Share of the steps after the warm-up that are done, in [0, 1] -> factor on the learning rate.

The warm-up ends with the full rate, so every schedule is 1 at 0.
"""


def constant(done: float) -> float:
    """Keep the full rate to the end."""
    return 1.0


def cosine(done: float) -> float:
    """Fall along half a cosine, to 0 at the last step (Loshchilov and Hutter 2017, Eq. 5)."""
    return 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine}
"""Name in a config -> schedule."""
