"""Gaussians as PLY files in the layout of the original 3D Gaussian Splatting code (Inria).

One binary ``vertex`` element of float32 properties: x y z, nx ny nz (zeros), f_dc_0..2 (the
constant spherical harmonic: rgb = 0.5 + SH_C0 * f_dc), opacity (a logit), scale_0..2 (natural
logarithms), rot_0..3 (w x y z). f_rest_* (view-dependent colour) is not written: viewers take its
absence as degree 0.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recon.gaussians import Gaussians
from recon.io.columns import SH_C0, as_arrays, write_bytes

# Logits and logarithms have no room for 0 and 1: values are moved inside by these amounts.
OPACITY_MARGIN = 1e-7
SCALE_MIN = 1e-20

_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"} | {
    "f4": "float",
    "f8": "double",
}
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}

_MEANS = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
_COLORS = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALES = ("scale_0", "scale_1", "scale_2")
_QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")


def save_ply(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write one scene. Opacities are kept 1e-7 away from 0 and 1, scales at 1e-20 or more.

    Raises:
        ValueError: the Gaussians are a batch, hold a value that is not finite, or have harmonics.
    """
    if gaussians.sh_degree is not None:
        raise ValueError("colors are spherical harmonics, and only plain colours are written here")
    means, quats, scales, opacities, colors = as_arrays(gaussians)
    inside = opacities.clip(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    columns = {
        _MEANS: means,
        _NORMALS: np.zeros_like(means),
        _COLORS: (colors - 0.5) / SH_C0,
        ("opacity",): np.log(inside / (1 - inside))[:, None],
        _SCALES: np.log(scales.clip(SCALE_MIN)),
        _QUATS: quats,
    }
    with np.errstate(over="ignore"):
        table = np.concatenate(list(columns.values()), 1).astype(np.float32)
    # an infinite opacity would be clipped to one that is written
    whole = np.isfinite(table).all(1) & np.isfinite(opacities)
    broken = int((~whole).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(table)} Gaussians hold NaN, or numbers beyond float32: not written"
        )
    names = [name for block in columns for name in block]
    write_vertices(path, dict(zip(names, table.T, strict=True)))


def load_ply(path: str | os.PathLike[str]) -> Gaussians:
    """Read one scene, activated, float32 on the CPU: the inverse of :func:`save_ply`.

    Reads what other programs write, whatever the order of the properties; further ones are left
    aside. View-dependent colour (f_rest_*) is dropped with a warning, colours below 0 become 0, as
    in viewers; quaternions stay as they are. So do values that float32 cannot hold or that are no
    numbers, with a warning: no renderer shows such a Gaussian.

    Raises:
        ValueError: not such a file, or a damaged one; the message says what is wrong.
    """
    fields = read_vertices(path)
    wanted = (*_MEANS, *_COLORS, "opacity", *_SCALES, *_QUATS)
    missing = [name for name in wanted if name not in fields]
    if missing:
        raise ValueError(f"{path} holds no 3D Gaussians: it lacks {', '.join(missing)}")
    if any(fields[name].any() for name in fields if name.startswith("f_rest_")):
        warnings.warn(
            f"{path}: view-dependent colour is dropped, the mean colour is kept", stacklevel=2
        )

    def block(names: tuple[str, ...]) -> NDArray[np.float64]:
        return np.stack([fields[name] for name in names], 1).astype(np.float64)

    with np.errstate(over="ignore", invalid="ignore"):
        columns = [
            values.astype(np.float32)
            for values in (
                block(_MEANS),
                block(_QUATS),
                np.exp(block(_SCALES)),
                1 / (1 + np.exp(-block(("opacity",)))),
                (0.5 + SH_C0 * block(_COLORS)).clip(0),
            )
        ]
    broken = int((~np.isfinite(np.concatenate(columns, 1)).all(1)).sum())
    if broken:
        warnings.warn(
            f"{path}: {broken} of {len(columns[0])} Gaussians hold NaN or infinity and are not"
            " rendered",
            stacklevel=2,
        )
    means, quats, scales, opacities, colors = map(torch.from_numpy, columns)
    return Gaussians(means, quats, scales, opacities[:, 0], colors)


def write_vertices(path: str | os.PathLike[str], fields: dict[str, NDArray]) -> None:
    """Write columns of equal length, bit for bit, as the properties of a ``vertex`` element.

    The file appears complete or not at all: it is written beside its place and then renamed. Its
    folder is made. Where a kill leaves the unfinished file, its name starts with ``.partial-``.

    Raises:
        OSError: it cannot be written; names ``path``, whose old content stays.
    """
    path = Path(path)
    layout = np.dtype([(name, column.dtype.newbyteorder("<")) for name, column in fields.items()])
    (count,) = {len(column) for column in fields.values()}
    table = np.empty(count, layout)
    for name, column in fields.items():
        table[name] = column
    properties = [f"property {_NAMES[c.dtype.str[1:]]} {name}" for name, c in fields.items()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *properties]
    text = "\n".join([*header, "end_header\n"])
    write_bytes(path, text.encode("ascii") + table.tobytes())


def read_vertices(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Read the columns of the ``vertex`` element of a binary PLY, bit for bit.

    It must be the first element and hold no lists; elements after it are left aside.

    Raises:
        ValueError: no PLY, ASCII (not supported), a header that is wrong, or too few bytes.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is not a file")
    data = path.read_bytes()
    end = data.find(b"end_header")
    if data.split(b"\n", 1)[0].strip() != b"ply" or end < 0:
        raise ValueError(f"{path} is not a PLY file, or its header is cut off")
    body = data.find(b"\n", end) + 1
    header = data[:end].decode("ascii", errors="replace").split("\n")
    count, layout, others = _parse_header(header, path)
    if body == 0 or len(data) - body < count * layout.itemsize:
        raise ValueError(
            f"{path} is cut off: {count} vertices of {layout.itemsize} bytes are promised, "
            f"{len(data) - body if body else 0} bytes follow the header"
        )
    if not others and len(data) - body > count * layout.itemsize:
        raise ValueError(f"{path} holds more bytes than the {count} vertices that it announces")
    table = np.frombuffer(data, layout, count, body)
    assert layout.names is not None
    return {name: table[name].astype(layout[name].newbyteorder("=")) for name in layout.names}


def _parse_header(lines: list[str], path: str | os.PathLike[str]) -> tuple[int, np.dtype, bool]:
    """Vertex count, record layout, and whether further elements follow."""
    order, count, properties, elements = "", -1, [], 0
    for line in lines[1:]:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", kind, "1.0"] if not order and not elements:
                if kind not in _BYTE_ORDERS:
                    raise ValueError(f"{path} is a PLY of format '{kind}': only binary is read")
                order = _BYTE_ORDERS[kind]
            case ["element", name, number] if number.isdigit() and len(number) < 20:
                if elements == 0 and name != "vertex":
                    raise ValueError(f"{path}: the first element must be vertex, not '{name}'")
                elements += 1
                count = int(number) if elements == 1 else count
            case ["property", kind, name] if kind in _TYPES and elements == 1:
                properties.append((name, order + _TYPES[kind]))
            case ["property", *_] if elements > 1:
                pass
            case _:
                raise ValueError(f"{path}: header line not understood: '{line.strip()[:80]}'")
    names = [name for name, _ in properties]
    if not order or count < 0 or not names or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: the header must name a format and a vertex element with distinct properties"
        )
    return count, np.dtype(properties), elements > 1
