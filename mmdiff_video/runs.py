"""A run: its config, from the shipped one that suits its backbone."""

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from mmdiff_video.backbones.describe import describe
from mmdiff_video.config import ConfigSource, Override
from mmdiff_video.resources import find_config

logger = logging.getLogger(__name__)

Config = TypeVar("Config")

_SUFFIXES = {"laptop": "-nano", "gpu": ""}
"""Scale of a backbone -> end of the name of the config that suits it."""

_AGGREGATOR_WIDTHS = {"laptop": 128, "gpu": 768}
"""Scale of a backbone -> width D of the aggregators that read it, unless a config says otherwise
(768 in the paper)."""


def resolve_run_config(
    schema: type[Config], shipped: str, file: str | None, overrides: Sequence[Override]
) -> Config:
    """Build a run's config from a file, or the shipped one for its backbone, and overrides.

    Args:
        schema: the config of a kind of run; it has ``backbone.name`` and ``aggregator.width``.
        shipped: name of the shipped config for full-size backbones; SHIPPED-nano is that for those
            at the scale of a laptop.
        file: a YAML file or the name of a shipped one.
        overrides: see :data:`mmdiff_video.config.Override`.

    Raises:
        InputError: as :class:`mmdiff_video.config.ConfigSource`, or an unknown backbone.
    """
    source = ConfigSource(find_config(file) if file else None, overrides)
    name = source.get("backbone.name")
    if name is None:
        name = schema().backbone.name  # pyright: ignore[reportAttributeAccessIssue]
    scale = describe(str(name)).scale
    if file is None:
        path = find_config(f"{shipped}{_SUFFIXES[scale]}")
        logger.info("config: %s (the default for %s; --config takes another)", path.stem, name)
        source = source.with_file(path)
    base: dict[str, Any] = {
        "aggregator": {"width": _AGGREGATOR_WIDTHS[scale]},
        "backbone": {"name": str(name)},
    }
    return source.build(schema, base)
