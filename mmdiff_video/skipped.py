"""What is left out is counted and reported with its reason, never replaced in silence."""

from typing import NamedTuple


class Skipped(NamedTuple):
    """A clip or sample that cannot be used.

    Attributes:
        key: names it.
        reason: one sentence on what is wrong with it.
    """

    key: str
    reason: str
