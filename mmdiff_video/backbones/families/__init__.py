"""The table of families: one module here is one row.

To add a family, add its module, with the row in ``FAMILY``, and its line in ``MODULES``.
"""

from functools import cache
from importlib import import_module

from mmdiff_video.backbones.family import Family
from mmdiff_video.errors import InputError

MODULES = (
    "wan",
    "flux",
    "sd3",
)


@cache
def families() -> dict[str, Family]:
    """Read the table: diffusers pipeline class -> row."""
    rows: list[Family] = [import_module(f"{__name__}.{module}").FAMILY for module in MODULES]
    return {pipeline: row for row in rows for pipeline in row.pipelines}


def family_of(pipeline: str, where: str) -> Family:
    """Find the family of a pipeline class.

    Args:
        pipeline: the diffusers class.
        where: what is of this class, for the message.

    Raises:
        InputError: there is none; lists the classes there are.
    """
    table = families()
    if pipeline not in table:
        raise InputError(
            f"'{where}' is a {pipeline}, which is of no known family; valid: {', '.join(table)}"
        )
    return table[pipeline]
