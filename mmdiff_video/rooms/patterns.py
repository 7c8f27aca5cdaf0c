"""What materials look like: pictures that repeat, drawn by one function for each pattern."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.canvas import Canvas
from mmdiff_video.rooms.materials import Material

Array = NDArray[Any]

_SIDE, _FINE_SIDE, _PLAIN_SIDE = 128, 256, 32
_FINE = ("planks", "parquet", "brick", "boards", "terrazzo", "damask", "art", "view", "show")


def paint(material: Material) -> Array:
    """Draw a material: sRGB [side, side, 3] in 0..1; row is v, column is u."""
    side = _FINE_SIDE if material.pattern in _FINE else _SIDE
    if material.pattern == "plain":
        side = _PLAIN_SIDE
    canvas = Canvas(material.seed, side)
    pattern = PATTERNS[material.pattern]
    colors = np.array(material.colors, dtype=np.float32)
    return np.clip(pattern(canvas, colors), 0.01, 0.98)


def _mix(colors: Array, weight: Array, shade: Array | float = 1.0) -> Array:
    """Go from the first colour to the second, then lighten or darken."""
    weight = np.clip(weight, 0, 1)[..., None]
    shaded = np.asarray(shade, dtype=np.float32)
    shaded = shaded[..., None] if shaded.ndim else shaded
    return (colors[0] + (colors[1] - colors[0]) * weight) * shaded


def _edge(distance: Array, width: float) -> Array:
    """Give 1 within ``width`` of 0, falling off softly."""
    return np.clip(1.5 - np.abs(distance) / width, 0, 1)


def _step(value: Array, soft: float = 0.03) -> Array:
    return np.clip(value / soft + 0.5, 0, 1)


def _saw(value: Array) -> Array:
    return value - np.floor(value)


def _wave(value: Array) -> Array:
    """Triangle wave of period 1 in -1..1."""
    return 4 * np.abs(_saw(value) - 0.5) - 1


def _plain(c: Canvas, colors: Array) -> Array:
    return _mix(colors, 0.0 * c.u, 1 + 0.03 * c.noise())


def _plaster(c: Canvas, colors: Array) -> Array:
    return _mix(colors, 0.2 + 0.35 * c.noise(), 1 + 0.03 * c.noise("grain"))


def _concrete(c: Canvas, colors: Array) -> Array:
    stains = np.clip(c.noise() - 0.3, 0, 1)
    seams = _edge(_saw(c.u) - 0.5, 0.006) + _edge(_saw(c.v * 2) - 0.5, 0.012)
    return _mix(colors, 0.35 + 0.4 * c.noise(), 1 + 0.06 * c.noise("grain") - 0.2 * stains) * (
        1 - 0.25 * np.clip(seams, 0, 1)[..., None]
    )


def _wood_grain(c: Canvas, shift: Array | float = 0.0) -> Array:
    rings = _saw(c.u * c.count(2, 5) + 0.7 * c.noise("streak") + shift)
    return 0.35 * rings + 0.3 * c.noise("streak") + 0.15 * c.noise("grain")


def _wood(c: Canvas, colors: Array) -> Array:
    return _mix(colors, 0.15 + _wood_grain(c))


def _planks(c: Canvas, colors: Array) -> Array:
    columns, length = c.count(8, 14), c.count(1, 2)
    column = np.floor(c.u * columns)
    along = c.v * length + c.cells(column)
    board = column * 31 + np.floor(along) % length
    tone = c.cells(board)
    joint = np.maximum(
        _edge(_saw(c.u * columns + 0.5) - 0.5, 0.05),
        _edge(_saw(along + 0.5) - 0.5, 0.008 * length),
    )
    grain = _wood_grain(c, 7 * tone)
    return _mix(colors, 0.5 * grain + 0.45 * tone - 0.05, (1.06 - 0.12 * tone) * (1 - 0.55 * joint))


def _boards(c: Canvas, colors: Array) -> Array:
    columns = c.count(6, 12)
    tone = c.cells(np.floor(c.u * columns))
    joint = _edge(_saw(c.u * columns + 0.5) - 0.5, 0.06)
    return _mix(colors, 0.5 * _wood_grain(c, tone) + 0.25 * tone, 1 - 0.5 * joint)


def _parquet(c: Canvas, colors: Array) -> Array:
    n, strips = 2 * c.count(2, 3), c.count(3, 5)
    x, y = np.floor(c.u * n), np.floor(c.v * n)
    turned = (x + y) % 2
    across = np.where(turned > 0, _saw(c.u * n), _saw(c.v * n))
    strip = np.floor(across * strips)
    tone = c.cells(x * 57 + y * 23 + strip * 7)
    joint = _edge(_saw(across * strips + 0.5) - 0.5, 0.07)
    grain = np.where(turned > 0, c.noise("streak"), c.noise("streak").T)
    return _mix(colors, 0.1 + 0.3 * grain + 0.5 * tone, 1 - 0.4 * joint)


def _brick(c: Canvas, colors: Array) -> Array:
    rows = 2 * c.count(3, 7)
    columns = max(rows // c.count(2, 3), 1)
    row = np.floor(c.v * rows)
    x = c.u * columns + 0.5 * (row % 2)
    tone = c.cells(row * 61 + np.floor(x) % columns)
    joint = np.maximum(
        _edge(_saw(x + 0.5) - 0.5, 0.07 * columns / rows),
        _edge(_saw(c.v * rows + 0.5) - 0.5, 0.07),
    )
    shade = (0.8 + 0.35 * tone) * (1 + 0.12 * c.noise("grain"))
    return _mix(colors, joint, np.where(joint > 0.5, 1.0, shade))


def _tiles(c: Canvas, colors: Array) -> Array:
    n, m = c.count(2, 8), c.count(2, 8)
    if c.rng.random() < 0.6:
        m = n
    tone = c.cells(np.floor(c.u * n) * 37 + np.floor(c.v * m))
    joint = np.maximum(
        _edge(_saw(c.u * n + 0.5) - 0.5, 0.012 * n), _edge(_saw(c.v * m + 0.5) - 0.5, 0.012 * m)
    )
    return _mix(colors, joint, 0.93 + 0.12 * tone + 0.05 * c.noise())


def _panels(c: Canvas, colors: Array) -> Array:
    x, y = np.abs(_saw(c.u * 2) - 0.5), np.abs(_saw(c.v) - 0.5)
    frame = np.maximum(_edge(x - 0.40, 0.02), _edge(y - 0.44, 0.01))
    inside = ((x < 0.41) & (y < 0.45)) * 1.0
    return _mix(colors, frame * inside, 1 + 0.02 * c.noise() - 0.04 * inside)


def _checks(c: Canvas, colors: Array) -> Array:
    n = c.count(1, 3)
    return _mix(colors, _step(_sign_wave(c.u * n) * _sign_wave(c.v * n)), 1 + 0.05 * c.noise())


def _sign_wave(value: Array) -> Array:
    return np.clip(_wave(value) * 12, -1, 1)


def _stripes(c: Canvas, colors: Array) -> Array:
    n, share = c.count(2, 6), c.rng.uniform(-0.5, 0.4)
    return _mix(colors, _step(_wave(c.u * n) + share, 0.1), 1 + 0.04 * c.noise())


def _bands(c: Canvas, colors: Array) -> Array:
    return _stripes(c, colors).transpose(1, 0, 2)


def _zigzag(c: Canvas, colors: Array) -> Array:
    n, m = c.count(2, 4), c.count(2, 4)
    return _mix(colors, _step(_wave(c.v * n + 0.25 * _wave(c.u * m)), 0.15), 1 + 0.04 * c.noise())


def _diamonds(c: Canvas, colors: Array) -> Array:
    n, m = c.count(1, 3), c.count(1, 3)
    return _mix(colors, _step(_wave(c.u * n) + _wave(c.v * m), 0.15), 1 + 0.04 * c.noise())


def _dots(c: Canvas, colors: Array) -> Array:
    n, size = c.count(2, 5), c.rng.uniform(0.18, 0.36)
    row = np.floor(c.v * 2 * n)
    x, y = _saw(c.u * n + 0.5 * (row % 2)) - 0.5, (_saw(c.v * 2 * n) - 0.5) * 0.5
    return _mix(colors, _step(size * 0.7 - np.hypot(x, y), 0.08), 1 + 0.03 * c.noise())


def _plaid(c: Canvas, colors: Array) -> Array:
    n, share = c.count(2, 4), c.rng.uniform(-0.3, 0.3)
    weight = 0.5 * _step(_wave(c.u * n) + share, 0.1) + 0.5 * _step(_wave(c.v * n) + share, 0.1)
    fine = 0.25 * (_edge(_saw(c.u * n) - 0.5, 0.04) + _edge(_saw(c.v * n) - 0.5, 0.04))
    return _mix(colors, weight + fine, 1 + 0.05 * c.noise("grain"))


def _damask(c: Canvas, colors: Array) -> Array:
    n = c.count(2, 4)
    x, y = np.pi * 2 * n * c.u, np.pi * 2 * n * c.v
    bend = c.rng.uniform(0.6, 2.0)
    flower = np.cos(x + bend * np.sin(y)) * np.cos(y + bend * np.sin(x)) + 0.5 * np.cos(2 * x) * (
        np.cos(y * c.count(1, 2))
    )
    return _mix(colors, _step(flower - c.rng.uniform(0.0, 0.3), 0.3), 1 + 0.04 * c.noise())


def _rings(c: Canvas, colors: Array) -> Array:
    return _mix(colors, _step(_wave(np.hypot(c.u - 0.5, c.v - 0.5) * c.count(3, 7)), 0.2))


def _marble(c: Canvas, colors: Array) -> Array:
    veins = np.abs(np.sin(np.pi * (c.count(1, 2) * (c.u + c.v) + 1.4 * c.noise())))
    fine = np.abs(np.sin(np.pi * (c.count(2, 4) * c.v + 1.8 * c.noise())))
    weight = np.clip(1 - veins * 3, 0, 1) + 0.5 * np.clip(1 - fine * 5, 0, 1)
    return _mix(colors, 0.8 * weight + 0.12 * c.noise(), 1 + 0.05 * c.noise())


def _terrazzo(c: Canvas, colors: Array) -> Array:
    cell, edge = _voronoi(c, 12)
    tone = c.cells(cell)
    chips = (tone > 0.45) * _step(edge - 0.006, 0.006)
    hue = c.rng.uniform(0.5, 1.1, (997, 3)).astype(np.float32)[cell % 997]
    return _mix(colors, chips * 0.9) * (1 + (hue - 0.8) * chips[..., None])


def _patches(c: Canvas, colors: Array) -> Array:
    cell, edge = _voronoi(c, c.count(3, 7))
    return _mix(colors, c.cells(cell) + 0.05 * c.noise(), 1 - 0.3 * _edge(edge, 0.01))


def _hexes(c: Canvas, colors: Array) -> Array:
    n = c.count(4, 7)
    x, y = c.u * n, c.v * n
    a = np.maximum(np.abs(_saw(x) - 0.5), 0.5 * np.abs(_saw(x) - 0.5) + np.abs(_saw(y) - 0.5))
    b = np.maximum(
        np.abs(_saw(x + 0.5) - 0.5), 0.5 * np.abs(_saw(x + 0.5) - 0.5) + np.abs(_saw(y + 0.5) - 0.5)
    )
    first = a < b
    cell = np.where(first, np.floor(x) % n * 13 + np.floor(y) % n * 29, 500 + np.floor(x + 0.5) % n
                    * 13 + np.floor(y + 0.5) % n * 29)  # fmt: skip
    return _mix(colors, _step(0.06 - np.abs(a - b), 0.05), 0.85 + 0.25 * c.cells(cell))


def _voronoi(c: Canvas, n: int) -> tuple[NDArray, Array]:
    """Give every texel its nearest of n x n scattered points, and how much farther the next is."""
    jitter = c.rng.random((2, n, n), dtype=np.float32)
    x, y = c.u * n, c.v * n
    column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    nearest = np.full(c.u.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    cell = np.zeros(c.u.shape, dtype=np.int32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            i, j = (row + dy) % n, (column + dx) % n
            distance = np.hypot(column + dx + jitter[0, i, j] - x, row + dy + jitter[1, i, j] - y)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            cell = np.where(closer, i * n + j, cell)
            nearest = np.where(closer, distance, nearest)
    return cell, (second - nearest) / n


def _fabric(c: Canvas, colors: Array) -> Array:
    weave = np.sin(2 * np.pi * 32 * c.u) * np.sin(2 * np.pi * 32 * c.v)
    return _mix(colors, 0.25 + 0.2 * weave + 0.25 * c.noise("grain") + 0.1 * c.noise())


def _knit(c: Canvas, colors: Array) -> Array:
    n = c.count(8, 16)
    ribs = np.abs(np.sin(np.pi * (n * c.u + 0.2 * np.sin(2 * np.pi * n * c.v))))
    return _mix(colors, 0.6 - 0.6 * ribs + 0.2 * c.noise("grain"))


def _leather(c: Canvas, colors: Array) -> Array:
    return _mix(colors, 0.3 * np.abs(c.noise("grain")) + 0.2 * c.noise(), 1 + 0.05 * c.noise())


def _foliage(c: Canvas, colors: Array) -> Array:
    vein = _edge(c.u - 0.5, 0.03)
    return _mix(colors, 0.3 + 0.4 * c.noise() + 0.5 * vein, 1 + 0.15 * c.noise("grain"))


def _cardboard(c: Canvas, colors: Array) -> Array:
    return _mix(colors, 0.1 * np.sin(2 * np.pi * 40 * c.v) + 0.2 + 0.2 * c.noise())


# --- pictures that fill their surface once -------------------------------------------------------


def _art(c: Canvas, colors: Array) -> Array:
    """Draw an abstract composition: ground, bars, discs, hills or colour fields, and a margin."""
    ground = c.rng.random(3).astype(np.float32) * 0.4 + 0.5
    out = np.broadcast_to(ground, (*c.u.shape, 3)).copy()
    kind = c.count(0, 3)
    if kind == 0:
        return _landscape(c, colors)
    for i in range(c.count(3, 8)):
        ink = colors[i % 3] * c.rng.uniform(0.7, 1.15) if i < 5 else c.rng.random(3)
        x, y = c.rng.uniform(0.1, 0.9, 2)
        if kind == 1:
            mask = _step(c.rng.uniform(0.08, 0.3) - np.hypot(c.u - x, c.v - y), 0.02)
        elif kind == 2:
            w, h = c.rng.uniform(0.04, 0.4, 2)
            mask = _step(np.minimum(w - np.abs(c.u - x), h - np.abs(c.v - y)), 0.02)
        else:
            angle = c.rng.uniform(0, np.pi)
            side = (c.u - x) * np.cos(angle) + (c.v - y) * np.sin(angle) + 0.15 * c.noise()
            mask = _step(0.1 - np.abs(side), 0.03)
        out += (ink - out) * mask[..., None]
    return out * (1 + 0.05 * c.noise("grain")[..., None])


def _landscape(c: Canvas, colors: Array) -> Array:
    top = np.array([0.35, 0.55, 0.85]) * c.rng.uniform(0.8, 1.1)
    low = np.array([0.95, 0.80, 0.65]) if c.rng.random() < 0.4 else np.array([0.82, 0.90, 0.96])
    sky = top + (low - top) * c.v[..., None]
    out = sky + 0.12 * np.clip(c.noise(), 0, 1)[..., None]
    base = c.rng.uniform(0.45, 0.6)
    for i in range(c.count(2, 4)):
        ridge = base + 0.1 * i + 0.06 * np.sin(2 * np.pi * (c.u * c.count(1, 3) + c.rng.random()))
        ridge += 0.06 * c.noise()[0]
        hill = np.array([0.25, 0.42, 0.22]) * c.rng.uniform(0.6, 1.5) + 0.1 * (colors[i % 3] - 0.5)
        out += (hill - out) * _step(c.v - ridge, 0.02)[..., None]
    return (out * (1 + 0.06 * c.noise("grain")[..., None])).astype(np.float32)


def _view(c: Canvas, colors: Array) -> Array:
    """Draw what is seen through a window: bright sky over trees or houses."""
    sky = np.array([0.62, 0.78, 0.95], dtype=np.float32)
    haze = np.array([0.93, 0.95, 0.97], dtype=np.float32)
    out = sky + (haze - sky) * np.clip(c.v * 1.3 + 0.5 * np.clip(c.noise(), 0, 1), 0, 1)[..., None]
    if c.rng.random() < 0.5:  # houses
        for _ in range(c.count(2, 4)):
            x, w, top = c.rng.uniform(0, 1), c.rng.uniform(0.1, 0.25), c.rng.uniform(0.35, 0.65)
            near = _distance_round(c.u, x)
            roof = top + near * c.rng.uniform(0, 0.8)
            wall = (colors[c.count(0, 2)] + 1.2) * 0.4
            out += (wall - out) * _step(np.minimum(w - near, c.v - roof), 0.02)[..., None]
    trees = 0.72 + 0.12 * c.noise()
    green = np.array([0.36, 0.50, 0.30], dtype=np.float32) * c.rng.uniform(0.8, 1.3)
    leaves = green * (1 + 0.3 * c.noise("grain")[..., None])
    return out + (leaves - out) * _step(c.v - trees, 0.04)[..., None]


def _distance_round(u: Array, x: float) -> Array:
    """How far ``u`` is from ``x`` where 0 and 1 are the same place."""
    return np.abs(_saw(u - x + 0.5) - 0.5)


def _show(c: Canvas, colors: Array) -> Array:
    """Draw what runs on a screen: a landscape, bars or windows of text."""
    if c.rng.random() < 0.5:
        return _landscape(c, colors) * 0.9
    out = np.broadcast_to(colors[0] * 0.5, (*c.u.shape, 3)).copy()
    for _ in range(c.count(2, 5)):
        x, y = c.rng.uniform(0.15, 0.85, 2)
        w, h = c.rng.uniform(0.08, 0.35, 2)
        mask = _step(np.minimum(w - np.abs(c.u - x), h - np.abs(c.v - y)), 0.01)
        ink = colors[c.count(0, 2)] * 0.5 + c.rng.uniform(0.1, 0.5)
        lines = 1 - 0.4 * ((_saw(c.v * 24) < 0.4) & (_saw(c.u * 7) < 0.8))
        out += (ink * lines[..., None] - out) * mask[..., None]
    return out


PATTERNS: dict[str, Callable[[Canvas, Array], Array]] = {
    "plain": _plain, "plaster": _plaster, "concrete": _concrete, "wood": _wood, "planks": _planks,
    "boards": _boards, "parquet": _parquet, "brick": _brick, "tiles": _tiles, "panels": _panels,
    "checks": _checks, "stripes": _stripes, "bands": _bands, "zigzag": _zigzag,
    "diamonds": _diamonds, "dots": _dots, "plaid": _plaid, "damask": _damask, "rings": _rings,
    "marble": _marble, "terrazzo": _terrazzo, "patches": _patches, "hexes": _hexes,
    "fabric": _fabric, "knit": _knit, "leather": _leather, "foliage": _foliage,
    "cardboard": _cardboard, "art": _art, "view": _view, "show": _show,
}  # fmt: skip
"""Patterns of materials by name."""
