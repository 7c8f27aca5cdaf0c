"""Find the files that ship beside the code: ``configs/`` and the dataset cards in ``data/``.

In a checkout (and an editable install) they are the top-level folders; in a wheel the build puts
them under ``mmdiff_video/_resources``.
"""

import os
import sys
from pathlib import Path

from mmdiff_video.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(kind: str) -> Path:
    """Return the folder ``configs`` or ``data``.

    Raises:
        FileNotFoundError: the installation is broken (neither place exists).
    """
    for root in (_PACKAGE / "_resources", _PACKAGE.parent):
        if (root / kind).is_dir():
            return root / kind
    raise FileNotFoundError(
        f"'{kind}/' is missing from this installation of mmdiff-video; reinstall the package"
    )


def weights_dir() -> Path:
    """Return the folder of the trained weights that come with the package; it may be missing."""
    return _PACKAGE / "weights"


def example_video() -> Path:
    """Return the walk through a procedural room that ships with the package."""
    return _PACKAGE / "example" / "room.mp4"


def find_config(name: str) -> Path:
    """Resolve a config file: an existing path, else the name of a shipped one.

    Raises:
        InputError: nothing of that name; lists the shipped configs.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = resource_dir("configs")
    candidate = shipped / (name if name.endswith(".yaml") else f"{name}.yaml")
    if candidate.is_file():
        return candidate
    found = [*shipped.glob("*.yaml"), *shipped.glob("pretrain/*.yaml")]
    names = sorted(p.relative_to(shipped).with_suffix("").as_posix() for p in found)
    raise InputError(
        f"no config file '{name}'; give a path or one of the shipped: {', '.join(names)}"
    )


def cache_dir() -> Path:
    """Return the folder for what the program makes once and uses again (not created here).

    ``MMDIFF_CACHE`` names it; else the platform's place for caches.
    """
    if named := os.environ.get("MMDIFF_CACHE"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mmdiff-video"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmdiff-video"
