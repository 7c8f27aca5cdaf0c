"""Checks of single numbers, shared by the settings of all components."""

import math
import re
from typing import Any

from mmdiff_video.errors import InputError

LARGEST_SEED = 2**63 - 1
"""What every generator takes: torch's, NumPy's and Python's."""

LARGEST_COUNT = 10**12
"""Of steps, samples and other things: products and sums of larger ones fit no machine word."""


def check_least(name: str, value: float, least: float) -> None:
    """Refuse a number below ``least``, an infinite one and NaN.

    Args:
        name: of the setting, as a user types it (``train.steps``).
        value: of the setting.
        least: the smallest that makes sense.

    Raises:
        InputError: names the setting and the least value.
    """
    if not least <= value < math.inf:
        finite = "" if math.isfinite(value) else "finite and "
        raise InputError(f"{name} is {value}: it must be {finite}{least} or more")


def check_positive(name: str, value: float) -> None:
    """Refuse 0, what is below it, an infinite number and NaN.

    Args:
        name, value: as for :func:`check_least`.

    Raises:
        InputError: names the setting.
    """
    if not 0 < value < math.inf:
        raise InputError(f"{name} is {value}: it must be finite and above 0")


def check_seed(name: str, value: int) -> None:
    """Refuse a seed that some generator does not take, or takes for another.

    Args:
        name, value: as for :func:`check_least`.

    Raises:
        InputError: it is negative, or more than :data:`LARGEST_SEED`.
    """
    if not 0 <= value <= LARGEST_SEED:
        raise InputError(f"{name} is {value}: a seed must be from 0 to 2^63 - 1")


def check_name(name: str, value: str) -> None:
    """Refuse what cannot be the name of a folder in another one, such as ``../x``.

    Args:
        name: of the setting, as for :func:`check_least`.
        value: of the setting.

    Raises:
        InputError: names the setting.
    """
    if not re.fullmatch(r"(?!\.)[\w. -]{1,100}", value):
        raise InputError(
            f"{name} is '{value}': it names a folder, so it must be of letters, digits, '-', '_'"
            " and dots, and not begin with one"
        )


def check_fields(config: Any, prefix: str, **least: float) -> None:
    """Apply :func:`check_least` to fields of a config; None, the default, always passes.

    Whole numbers must be :data:`LARGEST_COUNT` or less too.

    Args:
        config: a dataclass.
        prefix: what stands before its fields where a user types them (``train.``).
        least: field -> the smallest value that makes sense.

    Raises:
        InputError: as :func:`check_least`, or names the largest value.
    """
    for field, value in least.items():
        found = getattr(config, field)
        if found is not None:
            check_least(f"{prefix}{field}", found, value)
            if isinstance(found, int) and found > LARGEST_COUNT:
                raise InputError(f"{prefix}{field} is {found}: it must be {LARGEST_COUNT} or less")
