"""Smaller things: lamps, plants, screens, boxes, balls, vases, and what hangs on walls."""

import math

from mmdiff_video.rooms import materials as m
from mmdiff_video.rooms.build import box, drape, four, globe, lathe, rod
from mmdiff_video.rooms.draw import Draw
from mmdiff_video.rooms.furniture import thing
from mmdiff_video.rooms.materials import Color, Material
from mmdiff_video.rooms.scene import Leaf, Part, Thing


def _vivid(draw: Draw, hue: Color | None) -> Color:
    return hue or m.color(draw, m.VIVID, m.VIVID, m.MUTED, m.PASTEL)


# --- lamps ---------------------------------------------------------------------------------------


def floor_lamp(draw: Draw, hue: Color | None = None) -> Thing:
    """A lamp on a pole."""
    return _standing_lamp(
        draw, hue, "floor lamp", draw.uniform(1.35, 1.75), draw.uniform(0.18, 0.28)
    )


def table_lamp(draw: Draw, hue: Color | None = None) -> Thing:
    """A lamp for tables and cabinets."""
    return _standing_lamp(draw, hue, "lamp", draw.uniform(0.38, 0.62), draw.uniform(0.12, 0.19))


def _standing_lamp(draw: Draw, hue: Color | None, name: str, height: float, r: float) -> Thing:
    small = height < 1
    shade = _shade_material(draw, hue)
    pole = m.metal(draw) if draw.chance(0.6) else m.wood(draw)
    tall = r * draw.uniform(1.0, 1.7)
    top = draw.uniform(0.45, 1.0)
    parts = [rod((0, 0, 0), r * draw.uniform(0.6, 0.9), 0.025, pole, sides=20)]
    if small and draw.chance(0.6):
        body = m.ceramic(draw, hue or m.color(draw, m.VIVID, m.PASTEL))
        waist = r * draw.uniform(0.3, 0.75)
        profile = [(r * 0.4, 0.02), (waist, height * 0.2), (waist * 0.8, height * 0.4),
                   (0.02, height - tall), (0.015, height - 0.05)]  # fmt: skip
        parts.append(lathe((0, 0, 0), profile, body))
    elif not small and draw.chance(0.25):
        for i in range(3):
            a = i * 2.1
            foot = (0.22 * math.cos(a), 0.22 * math.sin(a), 0.0)
            lean = 0.28
            turn = (lean * math.sin(a), -lean * math.cos(a), 0.0)
            parts.append(rod(foot, 0.018, (height - tall) * 1.03, pole, turn=turn))
        del parts[0]
    else:
        parts.append(rod((0, 0, 0), 0.016, height - 0.05, pole))
    if draw.chance(0.2):
        parts.append(globe((0, 0, height - 2 * r * 0.8), r * 0.8, shade))
    else:
        profile = [(r, height - tall), (r * top, height)]
        parts.append(lathe((0, 0, 0), profile, shade, sides=24))
    return thing("lamp", name, shade, (2 * r, 2 * r, height), parts)


def _shade_material(draw: Draw, hue: Color | None) -> Material:
    first = hue or m.color(draw, m.PASTEL, m.VIVID)
    pattern = draw.pick(("plain", "plain", "fabric", "stripes"))
    return m.make(draw, pattern, first, tile=0.4, word="", glow=draw.uniform(0.5, 1.0))


def pendant(draw: Draw, hue: Color | None = None) -> Thing:
    """A lamp that hangs; its top is the ceiling."""
    drop, r = draw.uniform(0.45, 0.8), draw.uniform(0.14, 0.28)
    shade = _shade_material(draw, hue)
    wire = m.paint(draw, Color("black", (0.08, 0.08, 0.08)))
    tall = r * draw.uniform(0.6, 1.3)
    style = draw.integer(0, 2)
    parts = [rod((0, 0, tall * 0.8), 0.008, drop - tall * 0.8, wire, sides=6)]
    if style == 0:
        parts.append(lathe((0, 0, 0), [(r, 0.0), (r * draw.uniform(0.2, 0.8), tall)], shade))
    elif style == 1:
        parts.append(globe((0, 0, 0), r * 0.7, shade))
    else:
        bowl = [(r * math.cos(a), tall * math.sin(a)) for a in (0.0, 0.4, 0.8, 1.2, 1.5)]
        parts.append(lathe((0, 0, 0), bowl, shade))
    return thing("lamp", "hanging lamp", shade, (2 * r, 2 * r, drop), parts)


# --- plants, vases -------------------------------------------------------------------------------


def plant(draw: Draw, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A potted plant: blades, a bush, or a small tree."""
    scale = draw.uniform(0.28, 0.45) if small else draw.uniform(0.75, 1.25)
    pot = m.ceramic(draw, hue or m.color(draw, m.VIVID, m.MUTED, m.PASTEL))
    r, tall = 0.2 * scale * draw.uniform(0.8, 1.2), 0.33 * scale * draw.uniform(0.7, 1.2)
    foot, lip = r * draw.uniform(0.5, 1.0), r * draw.uniform(0.85, 1.1)
    profile = [(foot, 0.0), (r, tall * 0.6), (lip, tall), (r * 0.8, tall * 0.93), (0.0, tall * 0.9)]
    parts = [lathe((0, 0, 0), profile, pot)]
    green = m.leaf(draw)
    style = draw.integer(0, 2)
    if style == 0:
        reach, height = _blades(draw, parts, green, tall, scale)
    elif style == 1:
        reach, height = _crown(draw, parts, green, tall, scale, trunk=0.0)
    else:
        reach, height = _crown(
            draw, parts, green, tall, scale, trunk=scale * draw.uniform(0.3, 0.7)
        )
    wide = 1.5 * max(reach, r)
    return Thing("plant", draw.pick(("plant", "potted plant")), "green", green.word,
                 (wide, wide, height), tuple(parts))  # fmt: skip


def _blades(draw: Draw, parts: list[Part], green: Material, z: float, scale: float):
    count, length = draw.integer(9, 20), scale * draw.uniform(0.5, 0.85)
    bend = draw.uniform(0.4, 1.6)
    rise = 0.0
    for i in range(count):
        a = 2.4 * i + draw.uniform(-0.3, 0.3)
        up = draw.uniform(0.6, 1.4)
        size = length * draw.uniform(0.7, 1.1)
        blade = Leaf(size, scale * draw.uniform(0.05, 0.11), bend)
        parts.append(Part(blade, green, (0.0, 0.0, z * 0.9), (up, 0.0, a)))
        rise = max(rise, size * 0.8 * math.sin(up))
    return length * 0.6, z + rise


def _crown(draw: Draw, parts: list[Part], green: Material, z: float, scale: float, trunk: float):
    """Leaves all round a centre."""
    r = scale * draw.uniform(0.22, 0.36)
    centre = z + trunk + r * 0.7
    bark = m.wood(draw)
    parts.append(rod((0, 0, z * 0.8), 0.02 + 0.012 * scale, centre - z * 0.8, bark, top=0.6))
    for i in range(draw.integer(26, 44)):
        a, up = 2.4 * i, math.asin(draw.uniform(-0.5, 1.0))
        leaf = Leaf(r * draw.uniform(0.7, 1.1), r * draw.uniform(0.3, 0.55), draw.uniform(0.2, 1.0))
        start = (
            -0.3 * r * math.sin(a) * math.cos(up),
            0.3 * r * math.cos(a) * math.cos(up),
            centre + 0.3 * r * math.sin(up),
        )
        parts.append(Part(leaf, green, start, (up, draw.uniform(-0.5, 0.5), a)))
    return r * 1.2, centre + r


def vase(draw: Draw, hue: Color | None = None, *, small: bool = True) -> Thing:
    """A turned vase, sometimes with dry stems or flowers."""
    height = draw.uniform(0.18, 0.36) if small else draw.uniform(0.55, 0.95)
    glaze = m.ceramic(draw, _vivid(draw, hue))
    belly = height * draw.uniform(0.18, 0.34)
    foot, neck = belly * draw.uniform(0.4, 0.8), belly * draw.uniform(0.25, 0.7)
    where, lip = draw.uniform(0.25, 0.65), draw.uniform(1.0, 1.6)
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
        rod((0, 0, height * 0.9), neck, 0.002, m.paint(draw, Color("black", (0.05, 0.05, 0.05))))
    )
    if draw.chance(0.4):
        stem = m.leaf(draw)
        bloom = m.paint(draw, m.color(draw, m.VIVID))
        for i in range(draw.integer(3, 7)):
            a, lean = 2.4 * i, draw.uniform(0.05, 0.35)
            long = height * draw.uniform(0.4, 0.8)
            turn = (lean * math.cos(a), lean * math.sin(a), 0.0)
            tip = (long * math.sin(turn[1]), -long * math.sin(turn[0]), height * 0.9 + long * 0.95)
            base = (tip[0] / 2, tip[1] / 2, height * 0.9)
            parts.append(rod(base, 0.006, long, stem, sides=5, turn=turn))
            parts.append(globe((tip[0], tip[1], tip[2] - 0.03), draw.uniform(0.02, 0.045), bloom))
    return thing("vase", "vase", glaze, (2 * belly, 2 * belly, height), parts)


# --- screens, boxes, balls -----------------------------------------------------------------------


def screen(draw: Draw, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A television or a monitor on its foot; the hue colours its case."""
    w = draw.uniform(0.42, 0.62) if small else draw.uniform(0.8, 1.25)
    height = w * draw.uniform(0.54, 0.62)
    case = m.paint(
        draw, hue or m.color(draw, {"black": (0.06, 0.06, 0.07), "white": (0.9, 0.9, 0.9)})
    )
    show = m.image(draw, "show", glow=draw.uniform(0.4, 0.9), gloss=0.4)
    lift = draw.uniform(0.06, 0.14)
    edge = 0.035 if hue else 0.018
    parts = [
        box((0, 0, lift), (w, 0.05, height), case),
        box((0, -0.027, lift + edge), (w - 2 * edge, 0.004, height - 2 * edge), show),
        box((0, 0.01, 0), (w * 0.4, 0.18, 0.015), case),
        box((0, 0.02, 0), (0.06, 0.03, lift + 0.05), case),
    ]
    name = "monitor" if small else draw.pick(("television", "screen"))
    return Thing("screen", name, case.color, "", (w, 0.2, lift + height), tuple(parts))


def crate(draw: Draw, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A box, crate or chest, with a lid or tape."""
    scale = draw.uniform(0.14, 0.26) if small else draw.uniform(0.36, 0.65)
    w, d = scale * draw.uniform(0.8, 1.3), scale * draw.uniform(0.7, 1.1)
    height = scale * draw.uniform(0.6, 1.2)
    if hue is None and draw.chance(0.35):
        card = Color("brown", (0.68, 0.52, 0.35))
        side = m.make(draw, "cardboard", card, tile=0.5, word="cardboard")
    else:
        side = m.toy(draw, _vivid(draw, hue))
    parts = [box((0, 0, 0), (w, d, height), side)]
    style = draw.integer(0, 3)
    if style == 0:
        lid = m.paint(draw, Color(side.color, m.shade(side.colors[0], 0.75)))
        parts.append(box((0, 0, height * 0.85), (w + 0.02, d + 0.02, height * 0.17), lid))
    elif style == 1:
        tape = m.paint(draw, m.color(draw, m.VIVID, m.PASTEL, without=(side.color,)))
        parts.append(box((0, 0, 0), (w + 0.006, d * 0.16, height + 0.004), tape))
        if draw.chance(0.5):
            parts.append(box((0, 0, 0), (w * 0.16, d + 0.006, height + 0.004), tape))
    elif style == 2:
        rim = m.wood(draw)
        for x, y in four(w / 2, d / 2):
            parts.append(box((x, y, 0), (0.05 * scale * 2, 0.05 * scale * 2, height + 0.01), rim))
    return thing("box", draw.pick(("box", "box", "chest") if not small else ("box",)), side,
                 (w + 0.03, d + 0.03, height), parts)  # fmt: skip


def ball(draw: Draw, hue: Color | None = None, *, small: bool = False) -> Thing:
    """A ball, plain or patterned."""
    r = draw.uniform(0.07, 0.13) if small else draw.uniform(0.22, 0.42)
    skin = m.toy(draw, _vivid(draw, hue))
    return thing("ball", "ball", skin, (2 * r, 2 * r, 2 * r), [globe((0, 0, 0), r, skin)])


def rug(draw: Draw, w: float, d: float) -> Thing:
    """A rug of a given size, square or round, sometimes with a border."""
    main = m.rug(draw)
    parts: list[Part] = []
    if draw.chance(0.3):
        r = min(w, d) / 2
        parts.append(rod((0, 0, 0), r, 0.012, main, sides=36))
        w = d = 2 * r
    else:
        if draw.chance(0.5):
            edge = m.cloth(draw, m.color(draw, m.MUTED, m.VIVID, without=(main.color,)), plain=1.0)
            parts.append(box((0, 0, 0), (w, d, 0.01), edge))
            parts.append(box((0, 0, 0), (w - 0.2, d - 0.2, 0.014), main))
        else:
            parts.append(box((0, 0, 0), (w, d, 0.012), main))
    return thing("rug", draw.pick(("rug", "carpet")), main, (w, d, 0.014), parts)


# --- on walls: the origin is the middle of the lower edge, on the wall ---------------------------


def picture(draw: Draw, w: float, height: float) -> Thing:
    """A framed picture."""
    art = m.image(draw, "art")
    frame = m.wood(draw) if draw.chance(0.5) else m.paint(draw, m.color(draw, m.MUTED, m.VIVID))
    edge = draw.uniform(0.02, 0.06)
    parts = [
        box((0, -0.015, 0), (w, 0.03, height), frame),
        box((0, -0.032, edge), (w - 2 * edge, 0.006, height - 2 * edge), art),
    ]
    if draw.chance(0.3):
        mat = m.paint(draw, Color("white", (0.93, 0.92, 0.88)))
        parts.insert(1, box((0, -0.031, edge), (w - 2 * edge, 0.006, height - 2 * edge), mat))
        inset = edge + draw.uniform(0.04, 0.08)
        size = (w - 2 * inset, 0.006, height - 2 * inset)
        if min(size[0], size[2]) > 0.1:
            parts[2] = box((0, -0.033, inset), size, art)
    return Thing(
        "picture",
        draw.pick(("picture", "painting")),
        art.color,
        "",
        (w, 0.04, height),
        tuple(parts),
    )


def wall_screen(draw: Draw, w: float) -> Thing:
    """A television on the wall."""
    height = w * 0.57
    case = m.paint(draw, Color("black", (0.05, 0.05, 0.06)))
    show = m.image(draw, "show", glow=draw.uniform(0.4, 0.9), gloss=0.4)
    parts = [
        box((0, -0.03, 0), (w, 0.05, height), case),
        box((0, -0.057, 0.02), (w - 0.04, 0.004, height - 0.04), show),
    ]
    return Thing("screen", "television", "black", "", (w, 0.06, height), tuple(parts))


def window(draw: Draw, w: float, height: float) -> Thing:
    """A window with its frame, bars and sill; the glass shows a bright outside."""
    frame = m.paint(draw, m.color(draw, {"white": (0.92, 0.92, 0.92)}, m.PASTEL))
    if draw.chance(0.3):
        frame = m.wood(draw)
    view = m.image(draw, "view", glow=draw.uniform(1.0, 1.5))
    edge = draw.uniform(0.04, 0.08)
    parts = [
        box((0, -0.01, 0), (w, 0.04, height), view),
        box((-(w + edge) / 2, -0.03, -edge), (edge, 0.06, height + 2 * edge), frame),
        box(((w + edge) / 2, -0.03, -edge), (edge, 0.06, height + 2 * edge), frame),
        box((0, -0.03, height), (w, 0.06, edge), frame),
        box((0, -0.07, -edge), (w + 2 * edge + 0.06, 0.14, 0.04), frame),
    ]
    columns, rows = draw.integer(1, 3), draw.integer(1, 3)
    for i in range(1, columns):
        parts.append(box((w * (i / columns - 0.5), -0.02, 0), (0.03, 0.04, height), frame))
    for j in range(1, rows):
        parts.append(box((0, -0.02, height * j / rows - 0.015), (w, 0.04, 0.03), frame))
    return Thing("window", "window", frame.color, "", (w + 2 * edge, 0.1, height), tuple(parts))


def door(draw: Draw) -> Thing:
    """A door with its frame."""
    w, height = draw.uniform(0.78, 0.95), draw.uniform(1.98, 2.1)
    leaf = (
        m.wood(draw)
        if draw.chance(0.5)
        else m.paint(draw, m.color(draw, m.PASTEL, m.VIVID, m.MUTED))
    )
    frame = leaf if draw.chance(0.3) else m.paint(draw, Color("white", (0.92, 0.91, 0.89)))
    parts = [box((0, -0.012, 0), (w, 0.024, height), leaf)]
    for x in (-1, 1):
        parts.append(box((x * (w / 2 + 0.035), -0.025, 0), (0.07, 0.05, height), frame))
    parts.append(box((0, -0.025, height), (w + 0.14, 0.05, 0.07), frame))
    inset = Color(leaf.color, m.shade(leaf.colors[0], draw.pick((0.8, 0.9, 1.2))))
    panel = m.paint(draw, inset)
    rows = draw.integer(0, 3)
    columns = draw.integer(1, 2)
    for j in range(rows):
        for i in range(columns):
            cell = (w - 0.24) / columns
            x = (i - (columns - 1) / 2) * (cell + 0.04)
            tall = (height - 0.3) / rows
            parts.append(box((x, -0.03, 0.12 + j * tall), (cell - 0.04, 0.014, tall - 0.1), panel))
    parts.append(globe((w / 2 - 0.08, -0.055, 1.0), 0.03, m.metal(draw)))
    return thing("door", "door", leaf, (w + 0.14, 0.08, height + 0.07), parts)


def curtains(draw: Draw, w: float, height: float) -> Thing:
    """A pair of curtains on a rod, for an opening ``w`` wide."""
    hue = m.color(draw, m.VIVID, m.PASTEL, m.MUTED)
    fabric = m.cloth(draw, hue, plain=0.65, leather=False)
    rail = m.metal(draw)
    each = draw.uniform(0.3, 0.5)
    depth = draw.uniform(0.025, 0.045)
    parts = [
        drape(
            (side * (w / 2 + each * 0.25), -0.12, 0),
            each,
            height,
            draw.integer(3, 6),
            depth,
            fabric,
        )
        for side in (-1, 1)
    ]
    wide = w + 2 * each
    turn = (0.0, math.pi / 2, 0.0)
    parts.append(rod((-wide / 2, -0.12, height + 0.01), 0.015, wide, rail, turn=turn))
    return thing("curtain", "curtains", fabric, (w + 1.5 * each, 0.2, height), parts)
