"""Colours with names and materials with words, so that captions say what the pictures show."""

from dataclasses import dataclass
from typing import NamedTuple

from mmdiff_video.rooms.rng import Rng

RGB = tuple[float, float, float]


class Color(NamedTuple):
    """An sRGB colour in 0..1 and what people call it."""

    name: str
    rgb: RGB


@dataclass(frozen=True)
class Material:
    """What a surface is made of.

    Attributes:
        pattern: a key of :data:`mmdiff_video.rooms.patterns.PATTERNS`.
        colors: sRGB in 0..1; the first dominates.
        tile: metres along one side of the square that repeats.
        seed: of the pattern.
        color: name of the dominating colour.
        word: adjective for captions, for instance "wooden" or "striped"; may be empty.
        gloss: strength of highlights, 0..1.
        glow: light given off, as a multiple of the colour, whatever the exposure; 0 for most.
    """

    pattern: str
    colors: tuple[RGB, ...]
    tile: float
    seed: int
    color: str
    word: str = ""
    gloss: float = 0.0
    glow: float = 0.0


VIVID: dict[str, RGB] = {
    "red": (0.80, 0.09, 0.08),
    "orange": (0.94, 0.44, 0.06),
    "yellow": (0.95, 0.79, 0.10),
    "green": (0.13, 0.58, 0.20),
    "teal": (0.03, 0.55, 0.56),
    "blue": (0.09, 0.29, 0.82),
    "purple": (0.45, 0.16, 0.66),
    "pink": (0.93, 0.38, 0.62),
}
MUTED: dict[str, RGB] = {
    "white": (0.92, 0.91, 0.89),
    "cream": (0.93, 0.87, 0.72),
    "beige": (0.79, 0.70, 0.56),
    "grey": (0.54, 0.54, 0.56),
    "black": (0.11, 0.11, 0.12),
    "brown": (0.42, 0.27, 0.16),
    "navy": (0.12, 0.17, 0.38),
    "olive": (0.45, 0.46, 0.22),
    "burgundy": (0.45, 0.09, 0.15),
}
PASTEL: dict[str, RGB] = {
    "white": (0.93, 0.92, 0.90),
    "cream": (0.94, 0.89, 0.76),
    "beige": (0.84, 0.76, 0.64),
    "light grey": (0.76, 0.76, 0.77),
    "light blue": (0.64, 0.78, 0.90),
    "mint": (0.67, 0.86, 0.76),
    "lavender": (0.76, 0.70, 0.88),
    "peach": (0.96, 0.77, 0.64),
    "light yellow": (0.95, 0.90, 0.62),
    "sage green": (0.64, 0.71, 0.56),
    "pale pink": (0.94, 0.78, 0.79),
}
WOODS: dict[str, RGB] = {
    "oak": (0.72, 0.53, 0.32),
    "pine": (0.86, 0.68, 0.45),
    "walnut": (0.40, 0.25, 0.15),
    "mahogany": (0.46, 0.18, 0.11),
    "birch": (0.88, 0.78, 0.62),
    "dark": (0.20, 0.13, 0.09),
    "grey": (0.55, 0.51, 0.46),
}
_METALS: dict[str, RGB] = {
    "steel": (0.62, 0.63, 0.65),
    "brass": (0.74, 0.58, 0.28),
    "black": (0.10, 0.10, 0.11),
    "white": (0.90, 0.90, 0.90),
    "copper": (0.72, 0.42, 0.28),
}

Range = dict[str, RGB]


def color(rng: Rng, *ranges: Range, without: tuple[str, ...] = ()) -> Color:
    """Choose a named colour, and vary it within what the name still covers."""
    options = {name: rgb for table in ranges for name, rgb in table.items() if name not in without}
    name = rng.pick(list(options))
    return Color(name, _varied(rng, options[name]))


def _varied(rng: Rng, rgb: RGB, amount: float = 0.09) -> RGB:
    light = rng.uniform(1 - amount, 1 + amount)
    r, g, b = (min(max(c * light + rng.uniform(-0.02, 0.02), 0.03), 0.97) for c in rgb)
    return round(r, 4), round(g, 4), round(b, 4)


def shade(rgb: RGB, factor: float) -> RGB:
    """Darken (below 1) or lighten (above 1) a colour."""
    if factor <= 1:
        r, g, b = (c * factor for c in rgb)
    else:
        r, g, b = (1 - (1 - c) / factor for c in rgb)
    return round(r, 4), round(g, 4), round(b, 4)


def make(
    rng: Rng,
    pattern: str,
    first: Color,
    second: RGB | None = None,
    *,
    tile: float,
    word: str = "",
    gloss: float = 0.0,
    glow: float = 0.0,
) -> Material:
    """Make a material; without a second colour the pattern shows in a shade of the first."""
    if second is None:
        lighter = sum(first.rgb) < 0.9 or rng.chance(0.3)
        second = shade(first.rgb, rng.uniform(1.2, 1.5) if lighter else rng.uniform(0.62, 0.85))
    seed = rng.integer(0, 1 << 30)
    return Material(pattern, (first.rgb, second), tile, seed, first.name, word, gloss, glow)


# --- by what they are used for -------------------------------------------------------------------


def wood(rng: Rng) -> Material:
    """Bare wood of a random kind."""
    name = rng.pick(list(WOODS))
    rgb = _varied(rng, WOODS[name])
    dark = shade(rgb, rng.uniform(0.55, 0.78))
    tile, seed = rng.uniform(0.5, 1.0), rng.integer(0, 1 << 30)
    called = "dark" if sum(rgb) < 0.9 else "grey" if name == "grey" else "brown"
    word = "wooden" if name in ("dark", "grey") else name
    if name in ("pine", "birch"):
        called = "light"
    return Material("wood", (rgb, dark), tile, seed, called, word, rng.uniform(0.0, 0.25))


def metal(rng: Rng) -> Material:
    """A thin-walled metal for legs, poles and knobs."""
    name = rng.pick(list(_METALS))
    first = Color(name, _varied(rng, _METALS[name]))
    return make(rng, "plain", first, tile=0.5, word="metal", gloss=rng.uniform(0.4, 0.9))


def paint(rng: Rng, first: Color) -> Material:
    """Lacquer in a given colour."""
    return make(rng, "plain", first, tile=0.8, gloss=rng.uniform(0.05, 0.4))


def solid(rng: Rng, first: Color) -> Material:
    """A surface for furniture bodies in a given colour: lacquer, or brushed wood stain."""
    if rng.chance(0.6):
        return paint(rng, first)
    return make(rng, "wood", first, tile=rng.uniform(0.5, 0.9), word="wooden", gloss=0.1)


_CLOTHS = {
    "fabric": "",
    "knit": "knitted",
    "stripes": "striped",
    "bands": "striped",
    "checks": "checked",
    "plaid": "plaid",
    "dots": "dotted",
    "zigzag": "zigzag",
    "damask": "patterned",
    "diamonds": "patterned",
}


def cloth(rng: Rng, first: Color, *, plain: float = 0.6, leather: bool = True) -> Material:
    """Upholstery, bedding, curtains: plain weave with this probability, else patterned."""
    if rng.chance(plain):
        pattern = rng.pick(("fabric", "fabric", "knit", "leather" if leather else "fabric"))
        word = {"leather": "leather", "knit": "knitted"}.get(pattern, "")
        gloss = 0.35 if pattern == "leather" else 0.0
        return make(rng, pattern, first, tile=rng.uniform(0.3, 0.6), word=word, gloss=gloss)
    pattern = rng.pick(list(_CLOTHS))
    return make(
        rng,
        pattern,
        first,
        _partner(rng, first),
        tile=rng.uniform(0.3, 0.9),
        word=_CLOTHS[pattern],
    )


def _partner(rng: Rng, first: Color) -> RGB:
    """Give a second colour that can be told from the first."""
    while True:
        second = color(rng, MUTED, PASTEL, VIVID, without=(first.name,))
        if sum(abs(a - b) for a, b in zip(first.rgb, second.rgb, strict=True)) > 0.6:
            return second.rgb


def ceramic(rng: Rng, first: Color) -> Material:
    """Glazed pottery: plain, banded or speckled."""
    pattern = rng.pick(("plain", "plain", "bands", "terrazzo", "marble", "zigzag", "checks"))
    word = {"bands": "striped", "zigzag": "zigzag", "checks": "checked"}.get(pattern, "ceramic")
    gloss = rng.uniform(0.3, 1.0)
    tile = rng.uniform(0.25, 0.6)
    return make(rng, pattern, first, _partner(rng, first), tile=tile, word=word, gloss=gloss)


def toy(rng: Rng, first: Color) -> Material:
    """Balls and boxes: plain or boldly patterned."""
    words = {
        "plain": "", "stripes": "striped", "bands": "striped", "checks": "checked",
        "dots": "dotted", "zigzag": "zigzag", "diamonds": "patterned", "patches": "patterned",
    }  # fmt: skip
    pattern = rng.pick(["plain", "plain", "plain", *words])
    return make(
        rng,
        pattern,
        first,
        _partner(rng, first),
        tile=rng.uniform(0.35, 0.8),
        word=words[pattern],
        gloss=rng.uniform(0.0, 0.6),
    )


def wall(rng: Rng) -> Material:
    """Paint, wallpaper, brick, panels, tiles, concrete: for a whole room's walls."""
    kind = rng.pick(
        ("plaster",) * 5
        + ("stripes", "damask", "diamonds", "dots", "brick", "brick", "panels", "tiles")
        + ("concrete", "planks", "plaid", "zigzag", "marble", "damask", "patches")
    )
    if kind == "brick":
        clay = Color("red", _varied(rng, (0.62, 0.30, 0.22), 0.2))
        pale = Color("white", _varied(rng, (0.86, 0.83, 0.78)))
        first = rng.pick((clay, clay, pale))
        joint = rng.pick(((0.78, 0.75, 0.70), (0.45, 0.42, 0.40), (0.9, 0.88, 0.85)))
        return make(rng, kind, first, joint, tile=rng.uniform(0.8, 1.5), word="brick")
    if kind == "planks":
        base = wood(rng)
        return Material(
            "boards", base.colors, rng.uniform(0.9, 1.6), base.seed, base.color, "wood-panelled"
        )
    if kind == "concrete":
        first = color(rng, {"grey": (0.60, 0.60, 0.60), "light grey": (0.74, 0.74, 0.73)})
        return make(rng, kind, first, tile=rng.uniform(1.6, 2.6), word="concrete")
    vivid = {
        "terracotta": (0.78, 0.45, 0.33), "dusty blue": (0.40, 0.54, 0.70),
        "teal": (0.30, 0.58, 0.60), "green": (0.40, 0.58, 0.42), "ochre": (0.82, 0.64, 0.30),
        "rose": (0.80, 0.52, 0.54), "grey": (0.56, 0.57, 0.60),
    }  # fmt: skip
    first = color(rng, PASTEL, PASTEL, vivid) if rng.chance(0.5) else color(rng, PASTEL)
    second = shade(first.rgb, rng.pick((0.72, 0.8, 0.88, 1.5)))
    words = {
        "plaster": "", "stripes": "striped", "damask": "patterned", "diamonds": "patterned",
        "dots": "dotted", "panels": "panelled", "tiles": "tiled", "plaid": "checked",
        "zigzag": "zigzag", "marble": "marble", "patches": "mottled",
    }  # fmt: skip
    tile = {"plaster": 2.4, "panels": 1.2, "tiles": 1.2, "marble": 2.2}.get(kind, 0.0)
    tile = tile or rng.uniform(0.6, 1.6)
    return make(rng, kind, first, second, tile=tile, word=words[kind])


def floor(rng: Rng) -> Material:
    """Planks, parquet, tiles, stone, carpet, concrete."""
    kind = rng.pick(
        ("planks",) * 5 + ("parquet", "parquet", "tiles", "tiles", "checks", "marble", "terrazzo")
        + ("carpet", "carpet", "concrete", "hexes", "diamonds", "brick")
    )  # fmt: skip
    if kind in ("planks", "parquet"):
        base = wood(rng)
        word = {"planks": "plank", "parquet": "parquet"}[kind]
        called = base.word if base.word != "wooden" else f"{base.color} wood"
        return Material(
            kind, base.colors, rng.uniform(1.2, 2.0), base.seed, called, word,
            rng.uniform(0.0, 0.5),
        )  # fmt: skip
    stone = {
        "grey": (0.56, 0.56, 0.55), "light grey": (0.74, 0.73, 0.71), "beige": (0.80, 0.72, 0.60),
        "white": (0.90, 0.89, 0.87), "terracotta": (0.72, 0.42, 0.30), "black": (0.17, 0.17, 0.18),
        "slate blue": (0.40, 0.47, 0.56), "green": (0.36, 0.52, 0.42),
    }  # fmt: skip
    if kind == "carpet":
        first = color(rng, stone, MUTED, without=("black", "white"))
        pattern = rng.pick(("knit", "fabric", "fabric", "damask"))
        return make(rng, pattern, first, tile=rng.uniform(0.5, 0.9), word="carpeted")
    first = color(rng, stone)
    if kind in ("checks", "diamonds"):
        second = _partner(rng, first)
        return make(rng, kind, first, second, tile=rng.uniform(0.6, 1.6), word="checked", gloss=0.4)
    joint = shade(first.rgb, rng.pick((0.6, 0.75, 1.6)))
    word = {
        "tiles": "tiled", "hexes": "tiled", "marble": "marble", "terrazzo": "terrazzo",
        "concrete": "concrete", "brick": "brick",
    }[kind]  # fmt: skip
    gloss = rng.uniform(0.0, 0.7)
    return make(rng, kind, first, joint, tile=rng.uniform(1.0, 2.0), word=word, gloss=gloss)


def ceiling(rng: Rng) -> Material:
    """White plaster mostly; sometimes boards or a colour."""
    if rng.chance(0.15):
        base = wood(rng)
        return Material("boards", base.colors, 1.4, base.seed, base.color, "wooden")
    first = color(rng, {"white": (0.92, 0.92, 0.90), "cream": (0.93, 0.90, 0.82)})
    if rng.chance(0.15):
        first = color(rng, PASTEL)
    return make(rng, "plaster", first, shade(first.rgb, 0.93), tile=2.5)


def rug(rng: Rng) -> Material:
    """Bold woven patterns."""
    first = color(rng, VIVID, MUTED)
    pattern = rng.pick((*_CLOTHS, "rings", "patches"))
    second = shade(first.rgb, 0.8) if pattern in ("fabric", "knit") else _partner(rng, first)
    word = {"patches": "patterned", "rings": "patterned", "fabric": "", "knit": "woven"}
    called = {**_CLOTHS, **word}[pattern]
    return make(rng, pattern, first, second, tile=rng.uniform(0.5, 1.4), word=called)


def image(rng: Rng, pattern: str, *, glow: float = 0.0, gloss: float = 0.0) -> Material:
    """A picture that fills its surface once (``tile`` 0): "art", "view" or "show"."""
    first = color(rng, VIVID)
    colors = (first.rgb, _partner(rng, first), color(rng, VIVID, MUTED, PASTEL).rgb)
    seed = rng.integer(0, 1 << 30)
    return Material(pattern, colors, 0.0, seed, first.name, "", gloss, glow)


def leaf(rng: Rng) -> Material:
    """Foliage."""
    greens = {
        "green": (0.16, 0.42, 0.14), "dark green": (0.08, 0.28, 0.12),
        "light green": (0.42, 0.62, 0.22), "olive": (0.42, 0.46, 0.20),
    }  # fmt: skip
    first = color(rng, greens)
    return make(rng, "foliage", first, shade(first.rgb, 1.4), tile=0.35, gloss=0.15)
