"""Smaller things: lamps, plants, screens, boxes, balls, vases, and what hangs on walls."""

import math

from mmdiff_video.rooms import materials as m
from mmdiff_video.rooms.build import box, drape, four, globe, lathe, rod
from mmdiff_video.rooms.furniture import thing
from mmdiff_video.rooms.materials import Color, Material
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import Leaf, Part, Thing


def _vivid(rng: Rng, hue: Color | None) -> Color:
    return hue or m.color(rng, m.VIVID, m.VIVID, m.MUTED, m.PASTEL)


# --- lamps ---------------------------------------------------------------------------------------


def floor_lamp(rng: Rng, hue: Color | None = None) -> Thing:
    """A lamp on a pole."""
    return _standing_lamp(rng, hue, "floor lamp", rng.uniform(1.35, 1.75), rng.uniform(0.18, 0.28))


def table_lamp(rng: Rng, hue: Color | None = None) -> Thing:
    """A lamp for tables and cabinets."""
    return _standing_lamp(rng, hue, "lamp", rng.uniform(0.38, 0.62), rng.uniform(0.12, 0.19))


def _standing_lamp(rng: Rng, hue: Color | None, name: str, height: float, r: float) -> Thing:
    small = height < 1
    shade = _shade_material(rng, hue)
    pole = m.metal(rng) if rng.chance(0.6) else m.wood(rng)
    tall = r * rng.uniform(1.0, 1.7)
    top = rng.uniform(0.45, 1.0)
    parts = [rod((0, 0, 0), r * rng.uniform(0.6, 0.9), 0.025, pole, sides=20)]
    if small and rng.chance(0.6):
        body = m.ceramic(rng, hue or m.color(rng, m.VIVID, m.PASTEL))
        waist = r * rng.uniform(0.3, 0.75)
        profile = [(r * 0.4, 0.02), (waist, height * 0.2), (waist * 0.8, height * 0.4),
                   (0.02, height - tall), (0.015, height - 0.05)]  # fmt: skip
        parts.append(lathe((0, 0, 0), profile, body))
    elif not small and rng.chance(0.25):
        for i in range(3):
            a = i * 2.1
            foot = (0.22 * math.cos(a), 0.22 * math.sin(a), 0.0)
            lean = 0.28
            turn = (lean * math.sin(a), -lean * math.cos(a), 0.0)
            parts.append(rod(foot, 0.018, (height - tall) * 1.03, pole, turn=turn))
        del parts[0]
    else:
        parts.append(rod((0, 0, 0), 0.016, height - 0.05, pole))
    if rng.chance(0.2):
        parts.append(globe((0, 0, height - 2 * r * 0.8), r * 0.8, shade))
    else:
        profile = [(r, height - tall), (r * top, height)]
        parts.append(lathe((0, 0, 0), profile, shade, sides=24))
    return thing("lamp", name, shade, (2 * r, 2 * r, height), parts)


def _shade_material(rng: Rng, hue: Color | None) -> Material:
    first = hue or m.color(rng, m.PASTEL, m.VIVID)
    pattern = rng.pick(("plain", "plain", "fabric", "stripes"))
    return m.make(rng, pattern, first, tile=0.4, word="", glow=rng.uniform(0.5, 1.0))


def pendant(rng: Rng, hue: Color | None = None) -> Thing:
    """A lamp that hangs; its top is the ceiling."""
    drop, r = rng.uniform(0.45, 0.8), rng.uniform(0.14, 0.28)
    shade = _shade_material(rng, hue)
    wire = m.paint(rng, Color("black", (0.08, 0.08, 0.08)))
    tall = r * rng.uniform(0.6, 1.3)
    style = rng.integer(0, 2)
    parts = [rod((0, 0, tall * 0.8), 0.008, drop - tall * 0.8, wire, sides=6)]
    if style == 0:
        parts.append(lathe((0, 0, 0), [(r, 0.0), (r * rng.uniform(0.2, 0.8), tall)], shade))
    elif style == 1:
        parts.append(globe((0, 0, 0), r * 0.7, shade))
    else:
        bowl = [(r * math.cos(a), tall * math.sin(a)) for a in (0.0, 0.4, 0.8, 1.2, 1.5)]
        parts.append(lathe((0, 0, 0), bowl, shade))
    return thing("lamp", "hanging lamp", shade, (2 * r, 2 * r, drop), parts)


# --- plants, vases -------------------------------------------------------------------------------


def plant(rng: Rng, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A potted plant: blades, a bush, or a small tree."""
    scale = rng.uniform(0.28, 0.45) if small else rng.uniform(0.75, 1.25)
    pot = m.ceramic(rng, hue or m.color(rng, m.VIVID, m.MUTED, m.PASTEL))
    r, tall = 0.2 * scale * rng.uniform(0.8, 1.2), 0.33 * scale * rng.uniform(0.7, 1.2)
    foot, lip = r * rng.uniform(0.5, 1.0), r * rng.uniform(0.85, 1.1)
    profile = [(foot, 0.0), (r, tall * 0.6), (lip, tall), (r * 0.8, tall * 0.93), (0.0, tall * 0.9)]
    parts = [lathe((0, 0, 0), profile, pot)]
    green = m.leaf(rng)
    style = rng.integer(0, 2)
    if style == 0:
        reach, height = _blades(rng, parts, green, tall, scale)
    elif style == 1:
        reach, height = _crown(rng, parts, green, tall, scale, trunk=0.0)
    else:
        reach, height = _crown(rng, parts, green, tall, scale, trunk=scale * rng.uniform(0.3, 0.7))
    wide = 1.5 * max(reach, r)
    return Thing("plant", rng.pick(("plant", "potted plant")), "green", green.word,
                 (wide, wide, height), tuple(parts))  # fmt: skip


def _blades(rng: Rng, parts: list[Part], green: Material, z: float, scale: float):
    count, length = rng.integer(9, 20), scale * rng.uniform(0.5, 0.85)
    bend = rng.uniform(0.4, 1.6)
    rise = 0.0
    for i in range(count):
        a = 2.4 * i + rng.uniform(-0.3, 0.3)
        up = rng.uniform(0.6, 1.4)
        size = length * rng.uniform(0.7, 1.1)
        blade = Leaf(size, scale * rng.uniform(0.05, 0.11), bend)
        parts.append(Part(blade, green, (0.0, 0.0, z * 0.9), (up, 0.0, a)))
        rise = max(rise, size * 0.8 * math.sin(up))
    return length * 0.6, z + rise


def _crown(rng: Rng, parts: list[Part], green: Material, z: float, scale: float, trunk: float):
    """Leaves all round a centre."""
    r = scale * rng.uniform(0.22, 0.36)
    centre = z + trunk + r * 0.7
    bark = m.wood(rng)
    parts.append(rod((0, 0, z * 0.8), 0.02 + 0.012 * scale, centre - z * 0.8, bark, top=0.6))
    for i in range(rng.integer(26, 44)):
        a, up = 2.4 * i, math.asin(rng.uniform(-0.5, 1.0))
        leaf = Leaf(r * rng.uniform(0.7, 1.1), r * rng.uniform(0.3, 0.55), rng.uniform(0.2, 1.0))
        start = (
            -0.3 * r * math.sin(a) * math.cos(up),
            0.3 * r * math.cos(a) * math.cos(up),
            centre + 0.3 * r * math.sin(up),
        )
        parts.append(Part(leaf, green, start, (up, rng.uniform(-0.5, 0.5), a)))
    return r * 1.2, centre + r


def vase(rng: Rng, hue: Color | None = None, *, small: bool = True) -> Thing:
    """A turned vase, sometimes with dry stems or flowers."""
    height = rng.uniform(0.18, 0.36) if small else rng.uniform(0.55, 0.95)
    glaze = m.ceramic(rng, _vivid(rng, hue))
    belly = height * rng.uniform(0.18, 0.34)
    foot, neck = belly * rng.uniform(0.4, 0.8), belly * rng.uniform(0.25, 0.7)
    where, lip = rng.uniform(0.25, 0.65), rng.uniform(1.0, 1.6)
    profile = [(foot, 0.0)]
    for i in range(1, 11):
        t = i / 10
        if t < where:
            s = t / where
            radius = foot + (belly - foot) * math.sin(s * math.pi / 2)
        else:
            s = (t - where) / (1 - where)
            radius = neck + (belly - neck) * (1 + math.cos(s * math.pi)) / 2
            if t > 0.85:
                radius *= 1 + (lip - 1) * (t - 0.85) / 0.15
        profile.append((radius, t * height))
    parts = [lathe((0, 0, 0), profile, glaze, sides=24)]
    parts.append(
        rod((0, 0, height * 0.9), neck, 0.002, m.paint(rng, Color("black", (0.05, 0.05, 0.05))))
    )
    if rng.chance(0.4):
        stem = m.leaf(rng)
        bloom = m.paint(rng, m.color(rng, m.VIVID))
        for i in range(rng.integer(3, 7)):
            a, lean = 2.4 * i, rng.uniform(0.05, 0.35)
            long = height * rng.uniform(0.4, 0.8)
            turn = (lean * math.cos(a), lean * math.sin(a), 0.0)
            tip = (long * math.sin(turn[1]), -long * math.sin(turn[0]), height * 0.9 + long * 0.95)
            base = (tip[0] / 2, tip[1] / 2, height * 0.9)
            parts.append(rod(base, 0.006, long, stem, sides=5, turn=turn))
            parts.append(globe((tip[0], tip[1], tip[2] - 0.03), rng.uniform(0.02, 0.045), bloom))
    return thing("vase", "vase", glaze, (2 * belly, 2 * belly, height), parts)


# --- screens, boxes, balls -----------------------------------------------------------------------


def screen(rng: Rng, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A television or a monitor on its foot; the hue colours its case."""
    w = rng.uniform(0.42, 0.62) if small else rng.uniform(0.8, 1.25)
    height = w * rng.uniform(0.54, 0.62)
    case = m.paint(
        rng, hue or m.color(rng, {"black": (0.06, 0.06, 0.07), "white": (0.9, 0.9, 0.9)})
    )
    show = m.image(rng, "show", glow=rng.uniform(0.4, 0.9), gloss=0.4)
    lift = rng.uniform(0.06, 0.14)
    edge = 0.035 if hue else 0.018
    parts = [
        box((0, 0, lift), (w, 0.05, height), case),
        box((0, -0.027, lift + edge), (w - 2 * edge, 0.004, height - 2 * edge), show),
        box((0, 0.01, 0), (w * 0.4, 0.18, 0.015), case),
        box((0, 0.02, 0), (0.06, 0.03, lift + 0.05), case),
    ]
    name = "monitor" if small else rng.pick(("television", "screen"))
    return Thing("screen", name, case.color, "", (w, 0.2, lift + height), tuple(parts))


def crate(rng: Rng, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A box, crate or chest, with a lid or tape."""
    scale = rng.uniform(0.14, 0.26) if small else rng.uniform(0.36, 0.65)
    w, d = scale * rng.uniform(0.8, 1.3), scale * rng.uniform(0.7, 1.1)
    height = scale * rng.uniform(0.6, 1.2)
    if hue is None and rng.chance(0.35):
        card = Color("brown", (0.68, 0.52, 0.35))
        side = m.make(rng, "cardboard", card, tile=0.5, word="cardboard")
    else:
        side = m.toy(rng, _vivid(rng, hue))
    parts = [box((0, 0, 0), (w, d, height), side)]
    style = rng.integer(0, 3)
    if style == 0:
        lid = m.paint(rng, Color(side.color, m.shade(side.colors[0], 0.75)))
        parts.append(box((0, 0, height * 0.85), (w + 0.02, d + 0.02, height * 0.17), lid))
    elif style == 1:
        tape = m.paint(rng, m.color(rng, m.VIVID, m.PASTEL, without=(side.color,)))
        parts.append(box((0, 0, 0), (w + 0.006, d * 0.16, height + 0.004), tape))
        if rng.chance(0.5):
            parts.append(box((0, 0, 0), (w * 0.16, d + 0.006, height + 0.004), tape))
    elif style == 2:
        rim = m.wood(rng)
        for x, y in four(w / 2, d / 2):
            parts.append(box((x, y, 0), (0.05 * scale * 2, 0.05 * scale * 2, height + 0.01), rim))
    return thing("box", rng.pick(("box", "box", "chest") if not small else ("box",)), side,
                 (w + 0.03, d + 0.03, height), parts)  # fmt: skip


def ball(rng: Rng, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A ball, plain or patterned."""
    r = rng.uniform(0.07, 0.13) if small else rng.uniform(0.22, 0.42)
    skin = m.toy(rng, _vivid(rng, hue))
    return thing("ball", "ball", skin, (2 * r, 2 * r, 2 * r), [globe((0, 0, 0), r, skin)])


def rug(rng: Rng, w: float, d: float) -> Thing:
    """A rug of a given size, square or round, sometimes with a border."""
    main = m.rug(rng)
    parts: list[Part] = []
    if rng.chance(0.3):
        r = min(w, d) / 2
        parts.append(rod((0, 0, 0), r, 0.012, main, sides=36))
        w = d = 2 * r
    else:
        if rng.chance(0.5):
            edge = m.cloth(rng, m.color(rng, m.MUTED, m.VIVID, without=(main.color,)), plain=1.0)
            parts.append(box((0, 0, 0), (w, d, 0.01), edge))
            parts.append(box((0, 0, 0), (w - 0.2, d - 0.2, 0.014), main))
        else:
            parts.append(box((0, 0, 0), (w, d, 0.012), main))
    return thing("rug", rng.pick(("rug", "carpet")), main, (w, d, 0.014), parts)


# --- on walls: the origin is the middle of the lower edge, on the wall ---------------------------


def picture(rng: Rng, w: float, height: float) -> Thing:
    """A framed picture."""
    art = m.image(rng, "art")
    frame = m.wood(rng) if rng.chance(0.5) else m.paint(rng, m.color(rng, m.MUTED, m.VIVID))
    edge = rng.uniform(0.02, 0.06)
    parts = [
        box((0, -0.015, 0), (w, 0.03, height), frame),
        box((0, -0.032, edge), (w - 2 * edge, 0.006, height - 2 * edge), art),
    ]
    if rng.chance(0.3):
        mat = m.paint(rng, Color("white", (0.93, 0.92, 0.88)))
        parts.insert(1, box((0, -0.031, edge), (w - 2 * edge, 0.006, height - 2 * edge), mat))
        inset = edge + rng.uniform(0.04, 0.08)
        size = (w - 2 * inset, 0.006, height - 2 * inset)
        if min(size[0], size[2]) > 0.1:
            parts[2] = box((0, -0.033, inset), size, art)
    return Thing(
        "picture",
        rng.pick(("picture", "painting")),
        art.color,
        "",
        (w, 0.04, height),
        tuple(parts),
    )


def wall_screen(rng: Rng, w: float) -> Thing:
    """A television on the wall."""
    height = w * 0.57
    case = m.paint(rng, Color("black", (0.05, 0.05, 0.06)))
    show = m.image(rng, "show", glow=rng.uniform(0.4, 0.9), gloss=0.4)
    parts = [
        box((0, -0.03, 0), (w, 0.05, height), case),
        box((0, -0.057, 0.02), (w - 0.04, 0.004, height - 0.04), show),
    ]
    return Thing("screen", "television", "black", "", (w, 0.06, height), tuple(parts))


def window(rng: Rng, w: float, height: float) -> Thing:
    """A window with its frame, bars and sill; the glass shows a bright outside."""
    frame = m.paint(rng, m.color(rng, {"white": (0.92, 0.92, 0.92)}, m.PASTEL))
    if rng.chance(0.3):
        frame = m.wood(rng)
    view = m.image(rng, "view", glow=rng.uniform(1.0, 1.5))
    edge = rng.uniform(0.04, 0.08)
    parts = [
        box((0, -0.01, 0), (w, 0.04, height), view),
        box((-(w + edge) / 2, -0.03, -edge), (edge, 0.06, height + 2 * edge), frame),
        box(((w + edge) / 2, -0.03, -edge), (edge, 0.06, height + 2 * edge), frame),
        box((0, -0.03, height), (w, 0.06, edge), frame),
        box((0, -0.07, -edge), (w + 2 * edge + 0.06, 0.14, 0.04), frame),
    ]
    columns, rows = rng.integer(1, 3), rng.integer(1, 3)
    for i in range(1, columns):
        parts.append(box((w * (i / columns - 0.5), -0.02, 0), (0.03, 0.04, height), frame))
    for j in range(1, rows):
        parts.append(box((0, -0.02, height * j / rows - 0.015), (w, 0.04, 0.03), frame))
    return Thing("window", "window", frame.color, "", (w + 2 * edge, 0.1, height), tuple(parts))


def door(rng: Rng) -> Thing:
    """A door with its frame."""
    w, height = rng.uniform(0.78, 0.95), rng.uniform(1.98, 2.1)
    leaf = (
        m.wood(rng) if rng.chance(0.5) else m.paint(rng, m.color(rng, m.PASTEL, m.VIVID, m.MUTED))
    )
    frame = leaf if rng.chance(0.3) else m.paint(rng, Color("white", (0.92, 0.91, 0.89)))
    parts = [box((0, -0.012, 0), (w, 0.024, height), leaf)]
    for x in (-1, 1):
        parts.append(box((x * (w / 2 + 0.035), -0.025, 0), (0.07, 0.05, height), frame))
    parts.append(box((0, -0.025, height), (w + 0.14, 0.05, 0.07), frame))
    inset = Color(leaf.color, m.shade(leaf.colors[0], rng.pick((0.8, 0.9, 1.2))))
    panel = m.paint(rng, inset)
    rows = rng.integer(0, 3)
    columns = rng.integer(1, 2)
    for j in range(rows):
        for i in range(columns):
            cell = (w - 0.24) / columns
            x = (i - (columns - 1) / 2) * (cell + 0.04)
            tall = (height - 0.3) / rows
            parts.append(box((x, -0.03, 0.12 + j * tall), (cell - 0.04, 0.014, tall - 0.1), panel))
    parts.append(globe((w / 2 - 0.08, -0.055, 1.0), 0.03, m.metal(rng)))
    return thing("door", "door", leaf, (w + 0.14, 0.08, height + 0.07), parts)


def curtains(rng: Rng, w: float, height: float) -> Thing:
    """A pair of curtains on a rod, for an opening ``w`` wide."""
    hue = m.color(rng, m.VIVID, m.PASTEL, m.MUTED)
    fabric = m.cloth(rng, hue, plain=0.65, leather=False)
    rail = m.metal(rng)
    each = rng.uniform(0.3, 0.5)
    depth = rng.uniform(0.025, 0.045)
    parts = [
        drape(
            (side * (w / 2 + each * 0.25), -0.12, 0),
            each,
            height,
            rng.integer(3, 6),
            depth,
            fabric,
        )
        for side in (-1, 1)
    ]
    wide = w + 2 * each
    turn = (0.0, math.pi / 2, 0.0)
    parts.append(rod((-wide / 2, -0.12, height + 0.01), 0.015, wide, rail, turn=turn))
    return thing("curtain", "curtains", fabric, (w + 1.5 * each, 0.2, height), parts)
