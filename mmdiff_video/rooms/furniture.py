"""Big things: seats, beds, tables, storage. Each function makes one instance, facing -y.

A ``hue`` given from outside makes the salient thing stand out; without one the thing chooses.
"""

import math

from mmdiff_video.rooms import materials as m
from mmdiff_video.rooms.build import box, cushion, four, globe, lathe, rod
from mmdiff_video.rooms.materials import Color, Material
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import Part, Thing, Vec3


def thing(kind: str, name: str, main: Material, size: Vec3, parts: list[Part]) -> Thing:
    """Put parts together; the main material gives the caption's words."""
    return Thing(kind, name, main.color, main.word, size, tuple(parts))


def _hue(rng: Rng, hue: Color | None) -> Color:
    return hue or m.color(rng, m.MUTED, m.VIVID, m.PASTEL)


def _body(rng: Rng, hue: Color | None) -> Material:
    """Wood or lacquer; always the hue where one is given."""
    if hue is None and rng.chance(0.6):
        return m.wood(rng)
    return m.solid(rng, _hue(rng, hue))


def _legs(
    rng: Rng, x: float, y: float, height: float, material: Material, thick: float = 0.045
) -> list[Part]:
    """Four legs: square, round, tapered or splayed."""
    style = rng.integer(0, 3)
    thick *= rng.uniform(0.7, 1.3)
    parts = []
    for cx, cy in four(x - thick, y - thick):
        if style == 0:
            parts.append(box((cx, cy, 0), (thick, thick, height), material))
        elif style == 1:
            parts.append(rod((cx, cy, 0), thick * 0.5, height, material))
        else:
            lean = 0.0 if style == 2 else 0.12
            turn = (math.copysign(lean, -cy), math.copysign(lean, cx), 0.0)
            foot = (cx + turn[1] * height * 0.5, cy - turn[0] * height * 0.5, 0.0)
            parts.append(box(foot, (thick * 0.6, thick * 0.6, height), material, taper=1.6))
    return parts


# --- seats ---------------------------------------------------------------------------------------


def chair(rng: Rng, hue: Color | None = None) -> Thing:
    """A side chair, a stool or an armchair."""
    style = rng.pick(("chair", "chair", "chair", "armchair", "armchair", "stool"))
    if style == "armchair":
        return _armchair(rng, hue)
    body = _body(rng, hue)
    soft = hue is not None or rng.chance(0.5)
    pad = m.cloth(rng, _hue(rng, hue)) if soft else body
    w, d = rng.uniform(0.40, 0.54), rng.uniform(0.40, 0.52)
    seat = rng.uniform(0.42, 0.50)
    if style == "stool":
        seat = rng.uniform(0.42, 0.72)
        parts = _legs(rng, w * 0.38, w * 0.38, seat - 0.03, body)
        parts.append(rod((0, 0, seat - 0.03), w * 0.5, 0.05, pad, sides=24))
        return thing("chair", "stool", pad, (w, w, seat + 0.03), parts)
    frame = m.metal(rng) if rng.chance(0.3) else body
    parts = _legs(rng, w / 2, d / 2, seat - 0.04, frame)
    if soft:
        parts.append(cushion((0, 0, seat - 0.05), (w, d, 0.10), pad, power=5))
    else:
        parts.append(box((0, 0, seat - 0.035), (w, d, 0.035), pad))
    back = rng.uniform(0.38, 0.60)
    tilt = (-rng.uniform(0.03, 0.2), 0.0, 0.0)
    y = d / 2 - 0.02
    kind = rng.integer(0, 3)
    if kind == 0:
        parts.append(cushion((0, y, seat + 0.02), (w, 0.07, back), pad, power=5, turn=tilt))
    elif kind == 1:  # posts and rails
        for x in (-1, 1):
            at = (x * (w / 2 - 0.02), y, seat - 0.02)
            parts.append(box(at, (0.04, 0.04, back), frame, turn=tilt))
        for i in range(rng.integer(2, 4)):
            height = seat + back * (0.95 - 0.24 * i) - 0.08
            parts.append(box((0, y, height), (w - 0.04, 0.025, 0.08), body, turn=tilt))
    elif kind == 2:  # spindles
        for i in range(count := rng.integer(4, 7)):
            x = (i / (count - 1) - 0.5) * (w - 0.04)
            parts.append(rod((x, y, seat - 0.02), 0.012, back, body, turn=tilt))
        parts.append(box((0, y + 0.02, seat + back - 0.06), (w, 0.035, 0.08), body, turn=tilt))
    else:
        parts.append(box((0, y, seat), (w * 0.92, 0.03, back), body, taper=0.85, turn=tilt))
    main = pad if soft else body
    return thing("chair", "chair", main, (w + 0.04, d + 0.1, seat + back), parts)


def _armchair(rng: Rng, hue: Color | None) -> Thing:
    pad = m.cloth(rng, _hue(rng, hue))
    return _couch(rng, "chair", "armchair", pad, rng.uniform(0.72, 0.95), 1)


def sofa(rng: Rng, hue: Color | None = None) -> Thing:
    """A two- or three-seater, sometimes with a chaise."""
    pad = m.cloth(rng, _hue(rng, hue), plain=0.75)
    seats = rng.integer(2, 3)
    return _couch(rng, "sofa", "sofa", pad,
                  seats * rng.uniform(0.58, 0.72) + 0.3, seats)  # fmt: skip


def _couch(rng: Rng, kind: str, name: str, pad: Material, w: float, seats: int) -> Thing:
    d, seat = rng.uniform(0.75, 0.95), rng.uniform(0.38, 0.46)
    arm, back = rng.uniform(0.10, 0.22), rng.uniform(0.34, 0.52)
    arm_height = rng.uniform(0.52, 0.66)
    lift = rng.uniform(0.04, 0.16)
    power = rng.uniform(4, 9)
    feet = m.wood(rng) if rng.chance(0.7) else m.metal(rng)
    parts = [
        box((x, y, 0), (0.05, 0.05, lift + 0.02), feet) for x, y in four(w / 2 - 0.07, d / 2 - 0.07)
    ]
    base = seat - 0.14
    parts.append(box((0, 0, lift), (w - 0.02, d, base - lift), pad))
    round_arm = rng.chance(0.4)
    for side in (-1, 1):
        x = side * (w - arm) / 2
        size = (arm, d, arm_height - lift)
        if round_arm:
            parts.append(box((x, 0, lift), (arm * 0.8, d, arm_height - lift - arm / 2), pad))
            roll = (-math.pi / 2, 0.0, 0.0)
            end = [(0, 0), (arm * 0.6, 0.0), (arm * 0.6, d), (0, d)]
            parts.append(lathe((x, -d / 2, arm_height - arm * 0.5), end, pad, turn=roll))
        else:
            parts.append(cushion((x, 0, lift), size, pad, power=power))
    thick = rng.uniform(0.16, 0.24)
    parts.append(
        cushion((0, (d - thick) / 2, lift), (w - 0.04, thick, seat + back - lift), pad, power=8)
    )
    inner = (w - 2 * arm) / seats
    for i in range(seats):
        x = (i - (seats - 1) / 2) * inner
        parts.append(
            cushion((x, -thick / 2 - 0.01, base), (inner, d - thick, 0.17), pad, power=power)
        )
        size = (inner * 0.96, 0.17, back)
        at = (x, d / 2 - thick - 0.06, seat - 0.01)
        parts.append(cushion(at, size, pad, power=4, turn=(-0.18, 0.0, 0.0)))
    if rng.chance(0.6):
        for _ in range(rng.integer(1, 3) if seats > 1 else 1):
            pillow = m.cloth(rng, m.color(rng, m.VIVID, m.PASTEL, without=(pad.color,)), plain=0.3)
            size = rng.uniform(0.3, 0.44)
            room = max((w - 2 * arm - size) / 2, 0.0)
            at = (rng.uniform(-room, room), d / 2 - thick - 0.26, seat)
            turn = (-0.35, 0.0, rng.uniform(-0.3, 0.3))
            parts.append(cushion(at, (size, 0.14, size), pillow, power=3, turn=turn))
    return thing(kind, name, pad, (w, d, seat + back + 0.05), parts)


def bed(rng: Rng, hue: Color | None = None) -> Thing:
    """A bed with its headboard at +y."""
    w = rng.pick((0.9, 1.2, 1.4, 1.6, 1.8)) + rng.uniform(-0.05, 0.05)
    d, height = rng.uniform(1.95, 2.15), rng.uniform(0.25, 0.38)
    frame = m.wood(rng) if rng.chance(0.65) else m.solid(rng, m.color(rng, m.MUTED, m.PASTEL))
    sheet = m.cloth(rng, m.color(rng, m.PASTEL), plain=0.8, leather=False)
    cover = m.cloth(rng, _hue(rng, hue), plain=0.5, leather=False)
    parts = [box((0, 0, height - 0.18), (w, d, 0.18), frame)]
    parts += [
        box((x, y, 0), (0.08, 0.08, height), frame) for x, y in four(w / 2 - 0.05, d / 2 - 0.05)
    ]
    head = rng.uniform(0.75, 1.25)
    if rng.chance(0.4):
        pad = m.cloth(rng, _hue(rng, None), plain=0.8)
        parts.append(cushion((0, d / 2, 0.1), (w + 0.06, 0.12, head - 0.1), pad, power=7))
    elif rng.chance(0.5):
        parts.append(box((0, d / 2, 0), (w + 0.04, 0.05, head), frame))
    else:
        for x in (-1, 1):
            parts.append(box((x * w / 2, d / 2, 0), (0.06, 0.06, head), frame))
        for i in range(bars := rng.integer(4, 9)):
            x = (i / (bars - 1) - 0.5) * (w - 0.1)
            parts.append(rod((x, d / 2, height), 0.015, head - height, frame))
        parts.append(box((0, d / 2, head - 0.05), (w, 0.05, 0.07), frame))
    top = height + rng.uniform(0.16, 0.24)
    parts.append(
        cushion((0, 0, height - 0.04), (w - 0.03, d - 0.04, top - height + 0.04), sheet, power=9)
    )
    reach = rng.uniform(0.6, 0.8) * d
    at, size = (0, (reach - d) / 2 - 0.02, height - 0.08), (w + 0.05, reach, top - height + 0.13)
    parts.append(cushion(at, size, cover, power=rng.uniform(7, 12)))
    if rng.chance(0.5):
        throw = m.cloth(rng, m.color(rng, m.VIVID, m.MUTED, without=(cover.color,)), plain=0.5)
        parts.append(
            cushion((0, -d / 2 + rng.uniform(0.3, 0.6), height - 0.09),
                    (w + 0.08, rng.uniform(0.35, 0.6), top - height + 0.16), throw, power=10)
        )  # fmt: skip
    pillow = m.cloth(rng, m.color(rng, m.PASTEL, m.VIVID), plain=0.7)
    count = 1 if w < 1.3 else 2
    for i in range(count):
        x = (i - (count - 1) / 2) * w * 0.46
        size = (min(w / count, 0.7) * 0.85, 0.36, 0.17)
        parts.append(
            cushion((x, d / 2 - 0.27, top - 0.02), size, pillow, power=2.6, turn=(0.25, 0, 0))
        )
    return thing("bed", "bed", cover, (w + 0.08, d + 0.1, head), parts)


# --- tables --------------------------------------------------------------------------------------


def table(rng: Rng, hue: Color | None = None, *, low: bool | None = None) -> Thing:
    """A dining table, a desk, or a low coffee table, round or square."""
    if low is None:
        low = rng.chance(0.35)
    top = _body(rng, hue)
    if hue is None and rng.chance(0.2):
        stone = m.color(rng, m.PASTEL, m.MUTED)
        top = m.make(rng, "marble", stone, tile=1.2, word="marble", gloss=0.6)
    frame = top if rng.chance(0.5) else (m.metal(rng) if rng.chance(0.5) else m.wood(rng))
    thick = rng.uniform(0.025, 0.06)
    height = rng.uniform(0.36, 0.50) if low else rng.uniform(0.70, 0.80)
    name = "coffee table" if low else rng.pick(("table", "table", "dining table"))
    if rng.chance(0.35):
        r = rng.uniform(0.38, 0.65)
        parts = [rod((0, 0, height - thick), r, thick, top, sides=32),
                 rod((0, 0, height - thick), r * 0.999, 0.001, top, sides=32)]  # fmt: skip
        if rng.chance(0.5):
            foot = r * rng.uniform(0.5, 0.7)
            profile = [(foot, 0.0), (foot * 0.9, 0.03), (0.06, 0.07), (rng.uniform(0.03, 0.08),
                       height * 0.5), (0.07, height - thick)]  # fmt: skip
            parts.append(lathe((0, 0, 0), profile, frame))
        else:
            parts += _legs(rng, r * 0.68, r * 0.68, height - thick, frame, 0.05)
        return thing("table", f"round {name}", top, (2 * r, 2 * r, height), parts)
    w = rng.uniform(0.8, 1.2) if low else rng.uniform(0.9, 1.7)
    d = rng.uniform(0.45, 0.7) if low else rng.uniform(0.6, 0.9)
    parts = [box((0, 0, height - thick), (w, d, thick), top)]
    style = rng.integer(0, 4)
    if style == 0:  # panels
        for x in (-1, 1):
            parts.append(box((x * (w / 2 - 0.06), 0, 0), (0.04, d * 0.92, height - thick), frame))
        parts.append(box((0, 0, height * 0.35), (w - 0.12, 0.03, height * 0.3), frame))
    elif style == 1 and not low:  # desk with drawers
        name = "desk"
        for i in range(3):
            z = 0.06 + i * (height - 0.1) / 3
            size = (0.38, d - 0.06, (height - 0.1) / 3 - 0.015)
            parts.append(box((w / 2 - 0.22, 0, z), size, frame))
            parts.append(globe((w / 2 - 0.22, -d / 2 + 0.02, z + 0.08), 0.018, m.metal(rng)))
        for y in (-1, 1):
            parts.append(
                box((-w / 2 + 0.05, y * (d / 2 - 0.05), 0), (0.05, 0.05, height - thick), frame)
            )
    elif style == 2 and low:  # a shelf below
        parts.append(box((0, 0, 0.12), (w - 0.1, d - 0.1, 0.025), top))
        parts += _legs(rng, w / 2, d / 2, height - thick, frame, 0.055)
    else:
        parts += _legs(rng, w / 2, d / 2, height - thick, frame, 0.06)
        if rng.chance(0.5):
            for y in (-1, 1):
                at = (0, y * (d / 2 - 0.07), height - thick - 0.08)
                parts.append(box(at, (w - 0.16, 0.02, 0.08), frame))
    return thing("table", name, top, (w, d, height), parts)


# --- storage -------------------------------------------------------------------------------------


def cabinet(rng: Rng, hue: Color | None = None, *, low: bool | None = None) -> Thing:
    """A dresser, sideboard, nightstand or wardrobe, with doors or drawers."""
    name = rng.pick(("cabinet", "dresser", "sideboard", "wardrobe", "nightstand"))
    if low is not None:
        name = rng.pick(("cabinet", "sideboard", "dresser") if low else ("wardrobe", "cabinet"))
    low_size = (rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.0))
    w, height = {
        "cabinet": low_size,
        "dresser": (rng.uniform(0.7, 1.2), rng.uniform(0.75, 1.1)),
        "sideboard": (rng.uniform(1.2, 1.8), rng.uniform(0.55, 0.85)),
        "wardrobe": (rng.uniform(0.8, 1.5), rng.uniform(1.7, 2.05)),
        "nightstand": (rng.uniform(0.36, 0.5), rng.uniform(0.45, 0.62)),
    }[name]
    d = rng.uniform(0.36, 0.55)
    body = _body(rng, hue)
    front = body
    if rng.chance(0.4):
        front = m.solid(rng, hue or m.color(rng, m.PASTEL, m.VIVID, m.MUTED))
    knob = m.metal(rng)
    lift = rng.uniform(0.0, 0.16) if rng.chance(0.7) else 0.0
    parts = [box((0, 0.01, lift), (w, d - 0.02, height - lift), body)]
    if lift > 0.03:
        parts += _legs(rng, w / 2, d / 2, lift, knob if rng.chance(0.3) else body)
    if rng.chance(0.4):
        parts.append(box((0, 0, height - 0.03), (w + 0.03, d + 0.02, 0.03), body))
    columns = max(1, round(w / rng.uniform(0.4, 0.6)))
    rows = 1 if name in ("wardrobe",) or rng.chance(0.3) else max(1, round((height - lift) / 0.25))
    gap = 0.012
    cell_w, cell_h = (w - gap) / columns, (height - lift - 0.04) / rows
    for i in range(columns):
        for j in range(rows):
            x = (i - (columns - 1) / 2) * cell_w
            z = lift + 0.01 + j * cell_h
            parts.append(box((x, -d / 2, z), (cell_w - gap, 0.03, cell_h - gap), front))
            if rows == 1:
                x += (0.5 - i % 2) * cell_w * 0.75 if columns > 1 else cell_w * 0.35
                tall = 0.16
                parts.append(
                    box((x, -d / 2 - 0.025, z + cell_h * 0.5 - tall / 2), (0.018, 0.03, tall), knob)
                )
            else:
                at = (x, -d / 2 - 0.025, z + cell_h * 0.55)
                parts.append(box(at, (min(cell_w * 0.35, 0.16), 0.03, 0.018), knob))
    main = front if hue is not None and front.color == hue.name else body
    return thing("cabinet", name, main, (w, d + 0.04, height), parts)


def shelf(rng: Rng, hue: Color | None = None) -> Thing:
    """An open bookcase, filled with books and small things."""
    w, height = rng.uniform(0.6, 1.3), rng.pick((rng.uniform(0.8, 1.2), rng.uniform(1.5, 2.05)))
    d, board = rng.uniform(0.24, 0.36), rng.uniform(0.02, 0.04)
    body = _body(rng, hue)
    parts = [
        box((-(w - board) / 2, 0, 0), (board, d, height), body),
        box(((w - board) / 2, 0, 0), (board, d, height), body),
    ]
    if rng.chance(0.7):
        parts.append(box((0, d / 2 - 0.008, 0.02), (w, 0.015, height - 0.02), body))
    rows = max(2, round(height / rng.uniform(0.3, 0.42)))
    step = (height - board) / rows
    for row in range(rows + 1):
        parts.append(box((0, 0, row * step), (w - 2 * board, d, board), body))
    for row in range(rows):
        if rng.chance(0.85):
            z = row * step + board
            parts += _filling(rng, w - 2 * board - 0.02, d, step - board, z)
    return thing("shelf", rng.pick(("bookshelf", "shelf")), body, (w, d, height), parts)


def _filling(rng: Rng, w: float, d: float, room: float, z: float) -> list[Part]:
    """Fill one board with books, a box, a vase or a ball."""
    parts: list[Part] = []
    x = -w / 2 + rng.uniform(0, 0.1)
    while x < w / 2 - 0.06:
        kind = rng.integer(0, 5)
        hue = m.color(rng, m.VIVID, m.MUTED, m.PASTEL)
        if kind <= 3:  # a row of books
            for _ in range(rng.integer(3, 9)):
                thick = rng.uniform(0.025, 0.06)
                tall = min(rng.uniform(0.17, 0.30), room - 0.02)
                deep = min(rng.uniform(0.14, 0.22), d - 0.03)
                if x + thick > w / 2:
                    break
                cover = m.paint(rng, m.color(rng, m.VIVID, m.MUTED, m.PASTEL))
                at = (x + thick / 2, (deep - d) / 2 + 0.02, z)
                parts.append(box(at, (thick - 0.003, deep, tall), cover))
                x += thick
            x += rng.uniform(0.02, 0.2)
        elif kind == 4:
            size = min(rng.uniform(0.14, 0.28), room - 0.02, w / 2 - x)
            if size > 0.08:
                at = (x + size / 2, 0.0, z)
                parts.append(box(at, (size, min(d - 0.04, size), size * 0.7), m.toy(rng, hue)))
            x += size + 0.05
        else:
            r = min(rng.uniform(0.05, 0.09), room / 2 - 0.02)
            if x + 2 * r < w / 2:
                profile = [(r * 0.6, 0.0), (r, r), (r * 0.4, 1.8 * r)]
                parts.append(lathe((x + r, 0, z), profile, m.ceramic(rng, hue), sides=12))
            x += 2 * r + 0.05
    return parts
