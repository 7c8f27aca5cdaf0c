"""Gaussians as ``.splat`` files, the format of antimatter15's viewer: 32 bytes each, no header.

Position and scale are three float32 each, colour and opacity four bytes, the rotation four bytes
of (q + 1) * 128, w first. View-dependent colour has no room in it. The layout is that of
``convert.py`` of https://github.com/antimatter15/splat.
"""

import os
import warnings
from pathlib import Path

import numpy as np

from recon.gaussians import Gaussians
from recon.io.columns import Columns, from_columns, to_columns, write_bytes
from recon.io.format_error import FormatError

_RECORD = np.dtype([("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])

_STEP = 0.5 / 255
"""What rounding moves a colour by."""


def save_splat(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write one scene; harmonics above degree 0 are dropped, and colours clipped, with a warning.

    Raises:
        ValueError: the Gaussians are a batch, or hold a value that is not finite.
    """
    columns = to_columns(gaussians)
    if columns.harmonics.shape[1]:
        warnings.warn(
            f"{path}: a .splat holds no view-dependent colour; the mean colour is kept",
            stacklevel=2,
        )
    bright = (columns.rgb > 1 + _STEP).any(1)  # below black all renderers draw black
    if bright.any():
        warnings.warn(
            f"{path}: {int(bright.sum())} of {len(columns.rgb)} Gaussians are brighter than white,"
            " which a .splat does not hold; they are clipped",
            stacklevel=2,
        )
    table = np.empty(len(columns.means), _RECORD)
    table["xyz"], table["scale"] = columns.means, columns.scales
    rgba = np.concatenate([columns.rgb, columns.opacities[:, None]], 1)
    table["rgba"] = (rgba * 255).round().clip(0, 255)
    table["quat"] = (columns.quats * 128 + 128).round().clip(0, 255)
    write_bytes(Path(path), table.tobytes())


def load_splat(path: str | os.PathLike[str]) -> Gaussians:
    """Read one scene, activated, float32 on the CPU.

    Raises:
        FormatError: a size that is no multiple of 32 bytes, or numbers that are no Gaussians.
        OSError: it cannot be read.
    """
    path = Path(path)
    data = path.read_bytes()
    if len(data) % _RECORD.itemsize:
        raise FormatError(
            f"'{path}' is no .splat file: {len(data)} bytes are no multiple of {_RECORD.itemsize}"
        )
    table = np.frombuffer(data, _RECORD)
    scale = table["scale"]
    if not (np.isfinite(table["xyz"]).all() and np.isfinite(scale).all() and (scale >= 0).all()):
        raise FormatError(f"'{path}' is no .splat file: it holds NaN, infinity or negative scales")
    rgba = table["rgba"].astype(np.float32) / 255
    return from_columns(
        Columns(
            means=table["xyz"],
            quats=(table["quat"].astype(np.float32) - 128) / 128,
            scales=table["scale"],
            opacities=rgba[:, 3],
            rgb=rgba[:, :3],
            harmonics=np.zeros((len(table), 0, 3), np.float32),
        )
    )
