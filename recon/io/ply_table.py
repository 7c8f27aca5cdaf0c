"""PLY files as tables of numbers: the columns of the ``vertex`` element, whatever they mean.

The format is Greg Turk's (https://paulbourke.net/dataformats/ply/). Binary files are read, of
either byte order; little-endian ones are written.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recon.io.columns import write_bytes
from recon.io.format_error import FormatError

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
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


class Header(NamedTuple):
    """What the header of a PLY says.

    Attributes:
        format: ``ascii``, ``binary_little_endian`` or ``binary_big_endian``.
        elements: name and count of each, ``vertex`` first.
        layout: of one vertex.
        comments: the text of each comment line.
    """

    format: str
    elements: dict[str, int]
    layout: np.dtype
    comments: list[str]

    @property
    def num_vertices(self) -> int:
        """Number of vertices."""
        return self.elements["vertex"]


class Table(NamedTuple):
    """A PLY whose header is understood, and whose numbers are not looked at yet."""

    path: Path
    header: Header
    body: memoryview
    """What follows the header."""

    def columns(self) -> dict[str, NDArray]:
        """Return the properties of the vertices, bit for bit, in the byte order of this machine.

        Raises:
            FormatError: ASCII, too few bytes, or too many.
        """
        path, header, count = self.path, self.header, self.header.num_vertices
        if header.format == "ascii":
            raise FormatError(f"{path} is a PLY of format 'ascii': only binary is read")
        needed = count * header.layout.itemsize
        if len(self.body) < needed:
            raise FormatError(
                f"{path} is cut off: {count} vertices of {header.layout.itemsize} bytes are"
                f" promised, {len(self.body)} bytes follow the header"
            )
        if len(header.elements) == 1 and len(self.body) > needed:
            raise FormatError(
                f"{path} holds more bytes than the {count} vertices that it announces"
            )
        rows = np.frombuffer(self.body, header.layout, count)
        assert header.layout.names is not None
        return {
            name: rows[name].astype(header.layout[name].newbyteorder("="))
            for name in header.layout.names
        }


def open_table(path: str | os.PathLike[str]) -> Table:
    """Read a PLY whose first element is ``vertex`` without lists, and understand its header.

    Raises:
        FormatError: no PLY, or a header that is wrong or cut off.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise FormatError(f"{path} is not a file")
    data = path.read_bytes()
    end = data.find(b"end_header")
    if data.split(b"\n", 1)[0].strip() != b"ply" or end < 0:
        raise FormatError(f"{path} is not a PLY file, or its header is cut off")
    header = _parse_header(data[:end].decode("ascii", errors="replace").split("\n"), path)
    body = data.find(b"\n", end) + 1
    return Table(path, header, memoryview(data)[body or len(data) :])


def read_vertices(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Read the columns of the ``vertex`` element of a binary PLY, bit for bit.

    It must be the first element and hold no lists; elements after it are left aside.

    Raises:
        FormatError: no PLY, ASCII (not supported), a header that is wrong, or too few bytes.
        OSError: it cannot be read.
    """
    return open_table(path).columns()


def write_vertices(
    path: str | os.PathLike[str], fields: dict[str, NDArray], comments: Sequence[str] = ()
) -> None:
    """Write columns of equal length, bit for bit, as the properties of a ``vertex`` element.

    The file appears complete or not at all: it is written beside its place and then renamed. Its
    folder is made. Where a kill leaves the unfinished file, its name starts with ``.partial-``.

    Args:
        path: replaced.
        fields: property -> [N] numbers of a type that PLY has.
        comments: lines of ASCII for the header.

    Raises:
        OSError: it cannot be written; names ``path``, whose old content stays.
    """
    layout = np.dtype([(name, column.dtype.newbyteorder("<")) for name, column in fields.items()])
    (count,) = {len(column) for column in fields.values()}
    table = np.empty(count, layout)
    for name, column in fields.items():
        table[name] = column
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {comment}" for comment in comments),
        f"element vertex {count}",
        *(f"property {_NAMES[c.dtype.str[1:]]} {name}" for name, c in fields.items()),
        "end_header\n",
    ]
    write_bytes(path, "\n".join(lines).encode("ascii") + table.tobytes())


def _parse_header(lines: list[str], path: Path) -> Header:
    found = ""
    elements: dict[str, int] = {}
    properties: list[tuple[str, str]] = []
    comments: list[str] = []
    for line in lines[1:]:
        match line.split():
            case ["comment", *words]:
                comments.append(" ".join(words))
            case [] | ["obj_info", *_]:
                pass
            case ["format", kind, "1.0"] if not found and not elements:
                if kind not in _BYTE_ORDERS:
                    raise FormatError(f"{path} is a PLY of format '{kind}': only binary is read")
                found = kind
            case ["element", name, number] if (
                number.isdigit() and len(number) < 20 and name not in elements
            ):
                if not elements and name != "vertex":
                    raise FormatError(_not_vertex(path, name))
                elements[name] = int(number)
            case ["property", kind, name] if kind in _TYPES and len(elements) == 1:
                properties.append((name, _TYPES[kind]))
            case ["property", *_] if len(elements) > 1:
                pass
            case _:
                raise FormatError(f"{path}: header line not understood: '{line.strip()[:80]}'")
    names = {name for name, _ in properties}
    if not found or not names or len(names) < len(properties):
        raise FormatError(
            f"{path}: the header must name a format and a vertex element with distinct properties"
        )
    layout = np.dtype([(name, _BYTE_ORDERS[found] + kind) for name, kind in properties])
    return Header(found, elements, layout, comments)


def _not_vertex(path: Path, name: str) -> str:
    sentence = f"{path}: the first element must be vertex, not '{name}'"
    if name == "chunk":
        sentence += ": it is a compressed PLY of PlayCanvas; `splat-transform` unpacks it"
    return sentence
