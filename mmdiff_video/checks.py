"""Checks of single numbers, shared by the settings of all components."""

import math

from mmdiff_video.errors import InputError


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
