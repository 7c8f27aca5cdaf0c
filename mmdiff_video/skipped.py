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


def listed(skipped: Sequence[Skipped], show: int = 20) -> list[str]:
    """Lines for a terminal: the first with their reasons, then how many more there are."""
    lines = [f"  skipped {key}: {reason}" for key, reason in skipped[:show]]
    more = len(skipped) - show
    return [*lines, f"  ... and {more} more"] if more > 0 else lines


def reasons(skipped: Sequence[Skipped], show: int = 3) -> str:
    """Words to end a message with: how many were left out, and why the first were."""
    if not skipped:
        return ""
    first = "; ".join(f"{key}: {reason}" for key, reason in skipped[:show])
    return f" ({len(skipped)} left out: {first}{'; ...' if len(skipped) > show else ''})"
