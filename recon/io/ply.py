"""Gaussians as PLY files in the layout of the original 3D Gaussian Splatting code (Inria).

One binary ``vertex`` element of float32 properties: x y z, nx ny nz (zeros), f_dc_0..2 (the
constant spherical harmonic: rgb = 0.5 + SH_C0 * f_dc), f_rest_* (the other harmonics: all of red,
then of green, then of blue; 9, 24 or 45 for degree 1, 2 or 3, none for plain colours), opacity (a
logit), scale_0..2 (natural logarithms), rot_0..3 (w x y z). This is what ``save_ply`` in
``scene/gaussian_model.py`` of https://github.com/graphdeco-inria/gaussian-splatting writes.

A comment names how the Gaussians are meant to be drawn, as Brush
(https://github.com/ArthurBrussee/brush) and splat-transform
(https://github.com/playcanvas/splat-transform) write and read it: ``SplatRenderMode: default`` is
the classic splatting that ``recon.rasterize`` does (every Gaussian is widened by 0.3 pixels and
keeps its opacity), ``mip`` that of Mip-Splatting.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recon.gaussians import Gaussians
from recon.io.columns import SH_C0, as_arrays, warn_of_filter
from recon.io.format_error import FormatError
from recon.io.ply_table import Header, open_table, write_vertices

# Logits and logarithms have no room for 0 and 1: values are moved inside by these amounts.
OPACITY_MARGIN = 1e-7
SCALE_MIN = 1e-20

_RENDER_MODE = "SplatRenderMode: default"

_MEANS = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
_COLORS = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALES = ("scale_0", "scale_1", "scale_2")
_QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
_NEEDED = (*_MEANS, *_COLORS, "opacity", *_SCALES, *_QUATS)

_HARMONICS = {0: 0, 9: 3, 24: 8, 45: 15}
"""Number of f_rest_* -> coefficients of each channel."""


def save_ply(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write one scene. Opacities are kept 1e-7 away from 0 and 1, scales at 1e-20 or more.

    What is read back is :func:`canonical` of it.

    Raises:
        ValueError: the Gaussians are a batch, or hold a value that is not finite.
        OSError: it cannot be written; names ``path``, whose old content stays.
    """
    write_vertices(path, _fields(gaussians), [_RENDER_MODE])


def load_ply(path: str | os.PathLike[str]) -> Gaussians:
    """Read one scene, activated, float32 on the CPU: the inverse of :func:`save_ply`.

    Reads what other programs write, whatever the order of the properties; further ones are left
    aside. Plain colours (no f_rest_*) below 0 become 0, as in viewers; quaternions stay as they
    are. So do values that float32 cannot hold or that are no numbers, with a warning: no renderer
    shows such a Gaussian. Another warning says where the file asks for Mip-Splatting's filter.

    Raises:
        FormatError: not such a file, or a damaged one; the message says what is wrong.
        OSError: it cannot be read.
    """
    table = open_table(path)
    _require_gaussians(table.header, table.path)
    if any(_asks_for_filter(comment) for comment in table.header.comments):
        warn_of_filter(path)
    gaussians = _from_fields(table.columns())
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None])
    values = torch.cat([*parts, gaussians.colors.flatten(1)], 1)
    broken = int((~values.isfinite().all(1)).sum())
    if broken:
        warnings.warn(
            f"{path}: {broken} of {len(values)} Gaussians hold NaN or infinity and are not"
            " rendered",
            stacklevel=2,
        )
    return gaussians


def canonical(gaussians: Gaussians) -> Gaussians:
    """Return one scene as it is after :func:`save_ply` and :func:`load_ply`, float32 on the CPU.

    Logits and logarithms round once: what comes out is written and read back bit for bit, and
    renders as its file does. Harmonics of degree 0 become plain colours.

    Raises:
        ValueError: as :func:`save_ply`.
    """
    return _from_fields(_fields(gaussians))


def _fields(gaussians: Gaussians) -> dict[str, NDArray]:
    """Properties of the file, [G] float32 each."""
    means, quats, scales, opacities, colors = as_arrays(gaussians)
    inside = opacities.clip(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    if gaussians.sh_degree is None:
        constant, harmonics = (colors - 0.5) / SH_C0, np.zeros((len(colors), 0))
    else:
        constant = colors[:, 0]
        count, coefficients, _ = colors[:, 1:].shape
        harmonics = colors[:, 1:].transpose(0, 2, 1).reshape(count, 3 * coefficients)
    columns = {
        _MEANS: means,
        _NORMALS: np.zeros_like(means),
        _COLORS: constant,
        tuple(f"f_rest_{i}" for i in range(harmonics.shape[1])): harmonics,
        ("opacity",): np.log(inside / (1 - inside))[:, None],
        _SCALES: np.log(scales.clip(SCALE_MIN)),
        _QUATS: quats,
    }
    with np.errstate(over="ignore"):
        table = np.concatenate(list(columns.values()), 1).astype(np.float32)
    # an infinite opacity would be clipped to one that is written, and a logarithm always fits
    whole = np.isfinite(table).all(1) & np.isfinite(opacities)
    whole &= (scales <= np.finfo(np.float32).max).all(1)
    broken = int((~whole).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(table)} Gaussians hold NaN, or numbers beyond float32: not written"
        )
    names = [name for block in columns for name in block]
    return dict(zip(names, table.T, strict=True))


def _from_fields(fields: dict[str, NDArray]) -> Gaussians:
    def block(names: tuple[str, ...]) -> NDArray[np.float64]:
        return np.stack([fields[name] for name in names], 1).astype(np.float64)

    rest = tuple(f"f_rest_{i}" for i in range(sum(name.startswith("f_rest_") for name in fields)))
    constant = block(_COLORS)
    with np.errstate(over="ignore", invalid="ignore"):
        columns = [
            values.astype(np.float32)
            for values in (
                block(_MEANS),
                block(_QUATS),
                np.exp(block(_SCALES)),
                1 / (1 + np.exp(-block(("opacity",))))[:, 0],
                _coefficients(constant, block(rest)) if rest else (0.5 + SH_C0 * constant).clip(0),
            )
        ]
    return Gaussians(*map(torch.from_numpy, columns))


def _coefficients(constant: NDArray, rest: NDArray) -> NDArray:
    """[G, K, 3] of f_dc [G, 3] and f_rest [G, 3 (K - 1)], channel after channel."""
    harmonics = rest.reshape(len(rest), 3, rest.shape[1] // 3).transpose(0, 2, 1)
    return np.concatenate([constant[:, None], harmonics], 1)


def _require_gaussians(header: Header, path: Path) -> None:
    names = header.layout.names or ()
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        what = ""
        if not {"opacity", "scale_0", "rot_0"} & set(names):
            faces = header.elements.get("face", 0)
            what = f": it is a mesh of {faces} faces" if faces else ": it is a cloud of points"
        lacks = f"it lacks {', '.join(missing)}"
        raise FormatError(f"{path} holds no 3D Gaussians{what}{';' if what else ':'} {lacks}")
    rest = [name for name in names if name.startswith("f_rest_")]
    if len(rest) not in _HARMONICS or set(rest) != {f"f_rest_{i}" for i in range(len(rest))}:
        raise FormatError(
            f"{path} has {len(rest)} properties f_rest_*: spherical harmonics of degree 0 to 3"
            " have those of 0 to 8, 23 or 44"
        )


def _asks_for_filter(comment: str) -> bool:
    """Whether it is Brush's or Postshot's mark of a scene for Mip-Splatting's filter."""
    words = comment.lower().split()
    return words in (["splatrendermode:", "mip"], ["antialiased", "1"])
