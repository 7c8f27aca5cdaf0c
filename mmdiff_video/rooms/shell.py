"""Floor, ceiling and walls, and what belongs to them: skirting, panels, beams."""

from mmdiff_video.rooms import materials as m
from mmdiff_video.rooms.build import box
from mmdiff_video.rooms.furniture import thing
from mmdiff_video.rooms.materials import Color, Material
from mmdiff_video.rooms.plan import Plan
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import Part, Thing

_THICK = 0.1


def shell(rng: Rng, plan: Plan) -> None:
    """Add floor, ceiling and the four walls to an empty plan."""
    w, d, h = plan.size
    ground, paper, top = m.floor(rng), m.wall(rng), m.ceiling(rng)
    accent = m.wall(rng) if rng.chance(0.25) else paper
    plan.add_loose(_slab("floor", ground, (w / 2, d / 2, -_THICK), (w, d)))
    plan.add_loose(_ceiling(rng, plan, top))
    trim = _trim(rng)
    skirt = rng.uniform(0.07, 0.16) if rng.chance(0.75) else 0.0
    panel = m.solid(rng, m.color(rng, m.PASTEL)) if rng.chance(0.15) else None
    rail = rng.uniform(0.7, 1.1)
    for wall in ("back", "left", "right", "front"):
        main = accent if wall == "back" else paper
        length = plan.length(wall)
        # Walls, floor and ceiling overlap, so that no ray slips out between them.
        size = (length + 2 * _THICK, _THICK, h + 2 * _THICK)
        parts = [box((0, _THICK / 2, -_THICK), size, main)]
        if panel is not None:
            parts.append(box((0, 0, 0), (length, 0.012, rail), panel))
            parts.append(box((0, 0, rail), (length, 0.03, 0.04), trim))
        if skirt:
            parts.append(box((0, 0, 0), (length, 0.02, skirt), trim))
        flat = thing("wall", "wall", main, (length, _THICK, h), parts)
        plan.add_loose(plan.hang(flat, wall, length / 2, 0.0))


def _trim(rng: Rng) -> Material:
    if rng.chance(0.3):
        return m.wood(rng)
    return m.paint(rng, Color("white", (0.9, 0.9, 0.88)))


def _slab(
    kind: str, main: Material, at: tuple[float, float, float], size: tuple[float, float]
) -> Thing:
    whole = (size[0], size[1], _THICK)
    return Thing(kind, kind, main.color, main.word, whole, (box((0, 0, 0), whole, main),), at)


def _ceiling(rng: Rng, plan: Plan, top: Material) -> Thing:
    w, d, h = plan.size
    parts: list[Part] = [box((0, 0, 0), (w, d, _THICK), top)]
    if rng.chance(0.2):
        beam = m.wood(rng) if rng.chance(0.7) else top
        count, thick = rng.integer(2, 5), rng.uniform(0.1, 0.18)
        along = rng.chance(0.5)
        for i in range(count):
            place = (i + 0.5) / count - 0.5
            at = (place * w, 0, -thick) if along else (0, place * d, -thick)
            size = (thick, d, thick) if along else (w, thick, thick)
            parts.append(box(at, size, beam))
    elif rng.chance(0.3):
        edge = _trim(rng)
        for x in (-1, 1):
            parts.append(box((x * (w / 2 - 0.03), 0, -0.07), (0.06, d, 0.07), edge))
        for y in (-1, 1):
            parts.append(box((0, y * (d / 2 - 0.03), -0.07), (w, 0.06, 0.07), edge))
    return Thing("ceiling", "ceiling", top.color, top.word, (w, d, _THICK), tuple(parts),
                 (w / 2, d / 2, h))  # fmt: skip
