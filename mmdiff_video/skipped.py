"""What is left out is counted and reported with its reason, never replaced in silence."""

from collections.abc import Sequence
from typing import NamedTuple


class Skipped(NamedTuple):
    """A clip or sample that cannot be used.

    Attributes:
        key: names it.
        reason: one sentence on what is wrong with it.
    """

    key: str
    reason: str


def reasons(skipped: Sequence[Skipped], show: int = 3) -> str:
    """Words to end a message with: how many were left out, and why the first were."""
    if not skipped:
        return ""
    first = "; ".join(f"{key}: {reason}" for key, reason in skipped[:show])
    return f" ({len(skipped)} left out: {first}{'; ...' if len(skipped) > show else ''})"
