"""The Gaussians of one scene as numpy columns: what every file format is written from."""

import os
import secrets
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recon.gaussians import Gaussians

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""


class Columns(NamedTuple):
    """G activated Gaussians."""

    means: NDArray
    """[G, 3]."""
    quats: NDArray
    """[G, 4] w, x, y, z, of unit length."""
    scales: NDArray
    """[G, 3]."""
    opacities: NDArray
    """[G] in [0, 1]."""
    rgb: NDArray
    """[G, 3], the colour that is the same from every direction."""
    harmonics: NDArray
    """[G, 0, 3], or [G, (degree + 1)^2 - 1, 3] coefficients from degree 1 on."""


def as_arrays(gaussians: Gaussians) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Means, quats, scales, opacities and colors of one scene as they are, in float64.

    Raises:
        ValueError: the Gaussians are a batch.
    """
    if gaussians.opacities.ndim != 1:
        raise ValueError(
            f"a file holds one scene, but means are {tuple(gaussians.means.shape)}: index the batch"
        )
    means, quats, scales, opacities, colors = (
        t.detach().double().cpu().numpy()
        for t in (
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
        )
    )
    return means, quats, scales, opacities, colors


def to_columns(gaussians: Gaussians) -> Columns:
    """Take one scene apart, in float64.

    Raises:
        ValueError: the Gaussians are a batch, or hold a value that no finite float32 is.
    """
    means, quats, scales, opacities, colors = as_arrays(gaussians)
    flat = colors.reshape(len(colors), int(np.prod(colors.shape[1:])))
    blocks = [means, quats, scales, opacities[:, None], flat]
    # NaN compares with nothing
    fits = np.abs(np.concatenate(blocks, 1)).max(1) <= np.finfo(np.float32).max
    broken = int((~fits).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(fits)} Gaussians hold NaN, or numbers beyond float32: not written"
        )
    if gaussians.sh_degree is None:
        rgb, harmonics = colors, np.zeros((len(colors), 0, 3))
    else:
        rgb, harmonics = 0.5 + SH_C0 * colors[:, 0], colors[:, 1:]
    lengths = np.linalg.norm(quats, axis=1, keepdims=True)
    return Columns(means, quats / np.maximum(lengths, 1e-30), scales, opacities, rgb, harmonics)


def from_columns(columns: Columns) -> Gaussians:
    """Put a scene together, float32: with plain colours where there are no harmonics."""
    colors = columns.rgb
    if columns.harmonics.shape[1]:
        constant = (columns.rgb[:, None] - 0.5) / SH_C0
        colors = np.concatenate([constant, columns.harmonics], 1)
    means, quats, scales, opacities = (
        torch.from_numpy(np.array(c, np.float32))
        for c in (columns.means, columns.quats, columns.scales, columns.opacities)
    )
    return Gaussians(
        means, quats, scales, opacities, torch.from_numpy(np.array(colors, np.float32))
    )


def warn_of_filter(path: str | os.PathLike[str]) -> None:
    """Warn a reader's caller of a scene whose opacities are for another way of drawing."""
    warnings.warn(
        f"{path} was fitted with Mip-Splatting's filter, and is drawn without it here: small"
        " Gaussians look too strong",
        stacklevel=3,
    )


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that appears complete or not at all; its folder is made.

    Raises:
        OSError: the disk refused; its ``filename`` is that of ``path``, whose old content stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose files only their owner may read.
    aside = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name[-32:]}")
    try:
        with aside.open("xb") as file:
            file.write(data)
        os.replace(aside, path)
    except OSError as error:  # of a full disk it names no file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        aside.unlink(missing_ok=True)
