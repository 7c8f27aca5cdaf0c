"""A scene in a file, in the format that the ending of its name says."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from recon.gaussians import Gaussians
from recon.io.format_error import FormatError
from recon.io.ply import load_ply, save_ply
from recon.io.splat import load_splat, save_splat
from recon.io.spz import load_spz, save_spz


class SceneFormat(NamedTuple):
    """Reader and writer of a format."""

    load: Callable[[str | os.PathLike[str]], Gaussians]
    save: Callable[[str | os.PathLike[str], Gaussians], None]


SCENE_FORMATS: dict[str, SceneFormat] = {
    ".ply": SceneFormat(load_ply, save_ply),
    ".spz": SceneFormat(load_spz, save_spz),
    ".splat": SceneFormat(load_splat, save_splat),
}
"""Formats by the ending of their files, in lower case."""


def load_scene(path: str | os.PathLike[str]) -> Gaussians:
    """Read one scene of one Gaussian or more, activated, float32 on the CPU.

    Raises:
        FormatError: an ending that is not known, no such file inside, a damaged one, or an empty
            one; the message says what is wrong.
        OSError: it cannot be read.
    """
    path = Path(path)
    load = _format(path).load
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise FormatError(f"'{path}' is not a file")
    gaussians = load(path)
    if not gaussians.num:
        raise FormatError(f"'{path}' holds no Gaussian: it is an empty scene")
    return gaussians


def save_scene(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write one scene; the file appears complete or not at all, and its folder is made.

    Raises:
        FormatError: an ending that is not known.
        ValueError: what the format cannot hold: a batch, or values that are not finite.
        OSError: it cannot be written; names ``path``, whose old content stays.
    """
    _format(Path(path)).save(path, gaussians)


def _format(path: Path) -> SceneFormat:
    found = SCENE_FORMATS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(SCENE_FORMATS)
        raise FormatError(f"'{path}' is in no format of scenes that is known: {known}")
    return found
