"""Make a room: choose the salient thing and a walk that looks at it, then furnish round both."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mmdiff_video.checks import check_least, check_seed
from mmdiff_video.errors import unknown_name
from mmdiff_video.rooms import decor, furniture
from mmdiff_video.rooms import materials as m
from mmdiff_video.rooms.caption import describe
from mmdiff_video.rooms.lighting import light
from mmdiff_video.rooms.plan import Plan, bounds
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import Room, Thing, Walk, rounded
from mmdiff_video.rooms.shell import shell
from mmdiff_video.rooms.walk import eyes

SPLITS: dict[str, int] = {"train": 0, "val": 1, "test": 2}
"""Split -> the number that seeds its rooms, so that no room belongs to two."""

_Maker = Callable[[Rng, m.Color], Thing]
_SALIENT: tuple[_Maker, ...] = (
    furniture.chair,
    furniture.chair,
    furniture.sofa,
    furniture.bed,
    furniture.table,
    furniture.cabinet,
    furniture.shelf,
    decor.floor_lamp,
    decor.crate,
    decor.ball,
    lambda rng, hue: decor.vase(rng, hue, small=False),
)
_BY_THE_WALL = ("sofa", "bed", "cabinet", "shelf")


def make_room(split: str, index: int, seed: int = 0) -> Room:
    """Describe room number ``index`` of a split; the same on every machine.

    Args:
        split: a key of :data:`SPLITS`; rooms of different splits have different random streams.
        index: at least 0.
        seed: another one makes another data set.

    Raises:
        InputError: unknown split, negative index, seed out of range.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    check_least("room index", index, 0)
    check_seed("seed", seed)
    rng = Rng(SPLITS[split], index, seed)
    plan, salient, walk = _stage(rng)
    _openings(rng, plan)
    _furnish(rng, plan, salient)
    _decorate(rng, plan)
    _set_tables(rng, plan, salient)
    lamps, windows, sun, ambient = light(rng, plan, salient, walk)
    room = Room(
        split=split,
        index=index,
        seed=seed,
        size=plan.size,
        things=tuple(plan.things),
        salient=salient,
        lamps=lamps,
        openings=windows,
        sun=sun,
        ambient=ambient,
        walk=walk,
        caption="",
    )
    room = rounded(room)
    return dataclasses.replace(room, caption=describe(rng, room))


# --- the salient thing and the walk --------------------------------------------------------------


def _stage(rng: Rng) -> tuple[Plan, int, Walk]:
    """Choose the salient thing, the room's size, and a walk that fits."""
    star = rng.pick(_SALIENT)(rng, m.color(rng, m.VIVID))
    w, d, h = star.size
    focal = rng.uniform(0.62, 0.84)
    distance = max(w, h) * focal / rng.uniform(0.46, 0.86)
    distance = min(max(distance, 1.0), 3.9) + d / 2
    by_wall = star.kind in _BY_THE_WALL or rng.chance(0.2)
    gap = 0.03 if by_wall else rng.uniform(0.5, 1.6)
    size = (
        rng.uniform(3.0, 6.2),
        max(rng.uniform(3.4, 6.0), gap + d / 2 + distance * 1.1 + 0.55),
        rng.uniform(2.35, 3.1),
    )
    size = (max(size[0], w + 0.8), size[1], max(size[2], h + 0.2))
    plan = Plan(size)
    shell(rng, plan)
    side = w / 2 + 0.15
    x = rng.uniform(max(side, size[0] * 0.22), min(size[0] - side, size[0] * 0.78))
    y = size[1] - gap - d / 2
    if by_wall:
        star = plan.against(star, "back", x)
    else:
        turn = rng.uniform(-0.7, 0.7)
        star = dataclasses.replace(star, at=(x, y, 0.0), yaw=turn, spot="floor")
    for attempt in range(60):
        walk = _walk(rng, star, distance, focal, spread=1.0 - attempt / 70)
        path = eyes(walk, np.linspace(0, 1, 40))
        if _clear(path, star, size):
            break
    else:
        raise AssertionError("no walk fits before the salient thing")
    salient = plan.add(star)
    plan.keep_clear(path, _sight_lines(path, star))
    return plan, salient, walk


def _walk(rng: Rng, star: Thing, distance: float, focal: float, spread: float) -> Walk:
    """Circle a part of the way round the salient thing while coming nearer or going away."""
    x, y, z = star.at
    height = star.size[2]
    angle = rng.uniform(-0.7, 0.7) * spread
    sweep = rng.sign() * min(rng.uniform(0.5, 1.5) / distance, 0.9) * max(spread, 0.3)
    near = rng.uniform(-0.1, 0.12)
    eye_height = min(max(rng.uniform(0.95, 1.65), height * 0.45), 0.45 + distance * 0.55)
    climb = rng.uniform(-0.15, 0.15)
    aim = (
        rng.uniform(-0.1, 0.1) * distance,
        z + height * 0.5 + rng.uniform(0.0, 0.13) * distance,
    )
    drift = (rng.uniform(-0.06, 0.06) * distance, rng.uniform(-0.04, 0.04) * distance)
    eyes_, targets, roll = [], [], []
    count = 9
    for i in range(count):
        t = (i - 1) / (count - 3) - 0.5  # the spline starts at its second knot
        a, r = angle + sweep * t, distance * (1 + near * 2 * t)
        sway = [rng.uniform(-0.02, 0.02) for _ in range(6)]
        eyes_.append((x + r * math.sin(a) + sway[0], y - r * math.cos(a) + sway[1],
                      max(eye_height + climb * t, 0.5) + sway[2]))  # fmt: skip
        targets.append((x + (aim[0] + 2 * t * drift[0]) * math.cos(a) + 2 * sway[3],
                        y + 2 * sway[4], aim[1] + 2 * t * drift[1] + 2 * sway[5]))  # fmt: skip
        roll.append(rng.uniform(-0.025, 0.025))
    return Walk(tuple(eyes_), tuple(targets), tuple(roll), focal)


def _clear(path: np.ndarray, star: Thing, size: tuple[float, float, float]) -> bool:
    """Whether a path stays in the room and away from the salient thing."""
    low, high = bounds(star)
    inside = (path[:, :2] > 0.3).all() and (path[:, :2] < np.array(size[:2]) - 0.3).all()
    near = ((path > low - 0.45) & (path < high + 0.45)).all(1)
    return bool(inside and not near.any())


def _sight_lines(path: np.ndarray, star: Thing) -> np.ndarray:
    """Points between the path and the salient thing that must stay free."""
    low, high = bounds(star)
    steps = np.linspace(0.08, 0.92, 14)[:, None]
    lines = []
    for eye in path[::8]:
        for fx in (-0.2, 0.2, 0.5, 0.8, 1.2):
            for fz in (0.1, 0.5, 0.95):
                goal = low + (high - low) * np.array([fx, 0.3, fz])
                lines.append(eye + (goal - eye) * steps)
    return np.concatenate(lines)


# --- openings ------------------------------------------------------------------------------------


def _openings(rng: Rng, plan: Plan) -> None:
    """Windows with curtains, and a door."""
    height = plan.size[2]
    for _ in range(rng.integer(1, 2)):
        tall = rng.uniform(0.9, min(1.5, height - 1.0))
        sill = rng.uniform(0.75, min(1.0, height - tall - 0.25))
        if rng.chance(0.15):
            sill, tall = 0.12, min(height - 0.4, 2.1)
        frame = decor.window(rng, rng.uniform(0.7, 1.6), tall)
        wall = rng.pick(("left", "left", "right", "right", "back", "back", "front"))
        _try_wall(rng, plan, frame, wall, sill, curtain=rng.chance(0.55))
    if rng.chance(0.7):
        wall = rng.pick(("left", "right", "back", "back"))
        _try_wall(rng, plan, decor.door(rng), wall, 0.0)


def _try_wall(
    rng: Rng, plan: Plan, item: Thing, wall: str, height: float, curtain: bool = False
) -> None:
    """Hang an item somewhere along a wall, if there is room."""
    length = plan.length(wall)
    for _ in range(12):
        low = 0.35 * length if wall in ("left", "right") else 0.1 * length
        along = rng.uniform(low, 0.9 * length)
        if plan.wall_free(item, wall, along, height, 0.06):
            plan.add_hanging(plan.hang(item, wall, along, height), wall, along)
            if curtain and item.kind == "window":
                tall = item.size[2] + rng.uniform(0.2, 0.35)
                low = max(height + item.size[2] + 0.12 - tall, 0.03)
                if rng.chance(0.5):
                    low = 0.03
                tall = min(height + item.size[2] + 0.14, plan.size[2] - 0.06) - low
                cloth = decor.curtains(rng, item.size[0], tall)
                plan.add_hanging(plan.hang(cloth, wall, along, low), wall, along)
            return


# --- furniture -----------------------------------------------------------------------------------


def _furnish(rng: Rng, plan: Plan, salient: int) -> None:
    star = plan.things[salient]
    if star.kind == "table":
        _chairs_round(rng, plan, star)
    if star.kind == "bed":
        _nightstand(rng, plan, star)
    _rug(rng, plan, star)
    wanted = 3 + int(plan.size[0] * plan.size[1] / 5) + rng.integer(0, 2)
    kinds = rng.shuffled(
        [
            *("sofa", "bed", "lamp", "ball", "vase"),
            *2 * ("cabinet", "shelf", "table", "chair", "plant", "box"),
        ]
    )
    kinds = [k for k in kinds if k != star.kind or k in ("chair", "box", "plant")]
    placed = 0
    for kind in kinds:
        if placed >= wanted:
            break
        placed += _place(rng, plan, kind)


def _make(rng: Rng, kind: str) -> Thing:
    return {
        "sofa": lambda: furniture.sofa(rng),
        "bed": lambda: furniture.bed(rng),
        "cabinet": lambda: furniture.cabinet(rng),
        "shelf": lambda: furniture.shelf(rng),
        "table": lambda: furniture.table(rng),
        "chair": lambda: furniture.chair(rng),
        "plant": lambda: decor.plant(rng),
        "lamp": lambda: decor.floor_lamp(rng),
        "box": lambda: decor.crate(rng),
        "ball": lambda: decor.ball(rng),
        "vase": lambda: decor.vase(rng, small=False),
    }[kind]()


def _place(rng: Rng, plan: Plan, kind: str) -> bool:
    """Find a place for a thing of a kind: big ones by walls, small ones in corners or anywhere."""
    item = _make(rng, kind)
    width, depth, _ = plan.size
    for attempt in range(24):
        if kind in _BY_THE_WALL or (kind in ("table", "chair") and attempt % 2):
            wall = rng.pick(("back", "back", "left", "left", "right", "right", "front"))
            low = 0.3 if wall in ("left", "right") else 0.0
            along = rng.uniform(low, 1.0) * plan.length(wall)
            spot = plan.against(item, wall, along, gap=0.03)
        elif kind in ("plant", "lamp", "vase") and attempt < 12:
            side, gap = rng.sign(), rng.uniform(0.04, 0.15)
            half = max(item.size[0], item.size[1]) / 2 + gap
            x = half if side < 0 else width - half
            y = depth - half if rng.chance(0.6) else rng.uniform(0.4 * depth, depth - half)
            corner = "corner" if y > depth - half - 0.3 else ""
            spot = dataclasses.replace(
                item, at=(x, y, 0.0), yaw=rng.uniform(-3.1, 3.1), spot=corner
            )
        else:
            at = (rng.uniform(0.3, width - 0.3), rng.uniform(0.35 * depth, depth - 0.3), 0.0)
            turn = rng.uniform(-3.1, 3.1) if kind not in ("table", "sofa", "bed") else 0.0
            spot = dataclasses.replace(item, at=at, yaw=turn, spot="floor")
        if plan.fits(spot):
            plan.add(spot)
            if kind == "table":
                _chairs_round(rng, plan, spot)
            if kind == "bed":
                _nightstand(rng, plan, spot)
            return True
    return False


def _chairs_round(rng: Rng, plan: Plan, table: Thing) -> None:
    """Put chairs of one set round a table, where they fit."""
    if "coffee" in table.name:
        return
    item = furniture.chair(rng)
    w, d, _ = table.size
    away = item.size[1] / 2 + 0.08
    places = [(0.0, d / 2 + away, 0.0), (-w / 2 - away, 0.0, math.pi / 2),
              (w / 2 + away, 0.0, -math.pi / 2), (0.0, -d / 2 - away, math.pi)]  # fmt: skip
    for px, py, turn in rng.shuffled(places)[: rng.integer(1, 4)]:
        c, s = math.cos(table.yaw), math.sin(table.yaw)
        at = (table.at[0] + px * c - py * s, table.at[1] + px * s + py * c, 0.0)
        yaw = table.yaw + turn + rng.uniform(-0.25, 0.25)
        spot = dataclasses.replace(item, at=at, yaw=yaw, spot="at the table")
        if plan.fits(spot, margin=-0.06):
            plan.add(spot)


def _nightstand(rng: Rng, plan: Plan, bed: Thing) -> None:
    """Put a low cabinet by the head of a bed, unless it comes out wide."""
    item = furniture.cabinet(rng, low=True)
    if item.size[0] > 0.8:
        return
    side = rng.sign() * (bed.size[0] / 2 + item.size[0] / 2 + 0.08)
    c, s = math.cos(bed.yaw), math.sin(bed.yaw)
    back = bed.size[1] / 2 - item.size[1] / 2
    at = (bed.at[0] + side * c - back * s, bed.at[1] + side * s + back * c, 0.0)
    spot = dataclasses.replace(item, at=at, yaw=bed.yaw, spot=bed.spot)
    if plan.fits(spot):
        plan.add(spot)


def _rug(rng: Rng, plan: Plan, star: Thing) -> None:
    if not rng.chance(0.6):
        return
    width, depth, _ = plan.size
    w, d = rng.uniform(1.2, 2.6), rng.uniform(1.0, 2.0)
    w, d = min(w, width - 0.4), min(d, depth - 0.4)
    x = min(max(star.at[0] + rng.uniform(-0.5, 0.5), w / 2 + 0.1), width - w / 2 - 0.1)
    y = min(max(star.at[1] - rng.uniform(0.0, 1.0), d / 2 + 0.1), depth - d / 2 - 0.1)
    item = decor.rug(rng, w, d)
    turn = rng.uniform(-0.15, 0.15) if rng.chance(0.3) else 0.0
    plan.add(dataclasses.replace(item, at=(x, y, 0.0), yaw=turn, spot="floor"))


# --- small things --------------------------------------------------------------------------------


def _decorate(rng: Rng, plan: Plan) -> None:
    """Pictures and a television on the walls, a lamp under the ceiling."""
    for _ in range(rng.integer(2, 6)):
        wall = rng.pick(("back", "back", "left", "right"))
        if rng.chance(0.15):
            item = decor.wall_screen(rng, rng.uniform(0.8, 1.2))
        else:
            item = decor.picture(rng, rng.uniform(0.35, 1.1), rng.uniform(0.35, 0.9))
        _try_wall(rng, plan, item, wall, rng.uniform(1.15, 1.6))
    if rng.chance(0.5):
        item = decor.pendant(rng)
        width, depth, height = plan.size
        at = (
            rng.uniform(0.3, 0.7) * width,
            rng.uniform(0.45, 0.75) * depth,
            height - item.size[2],
        )
        plan.add_loose(dataclasses.replace(item, at=at, spot="ceiling"))


def _set_tables(rng: Rng, plan: Plan, salient: int) -> None:
    """Put small things on tables, cabinets and low shelves."""
    for place, base in enumerate(list(plan.things)):
        holds = base.kind in ("table", "cabinet", "shelf") and base.size[2] < 1.3
        if not holds:
            continue
        room = base.size[0]
        count = rng.integer(0, 1) if place == salient else rng.integer(1, 3)
        count = min(count, int(room / 0.35))
        for i in range(count):
            item = _small(rng, base)
            x = ((i + 0.5) / count - 0.5) * (room - 0.1)
            limit = max((base.size[1] - item.size[1]) / 2 - 0.03, 0.0)
            y = rng.uniform(-limit, limit)
            if item.size[0] > room / count - 0.02 or item.size[1] > base.size[1]:
                continue
            if base.name.startswith("round") and math.hypot(x, y) + item.size[0] / 2 > room / 2:
                x, y = x * 0.5, 0.0
            c, s = math.cos(base.yaw), math.sin(base.yaw)
            at = (base.at[0] + x * c - y * s, base.at[1] + x * s + y * c, base.at[2] + base.size[2])
            if at[2] + item.size[2] > plan.size[2] - 0.1:
                continue
            yaw = base.yaw + (0.0 if item.kind == "screen" else rng.uniform(-0.6, 0.6))
            item = dataclasses.replace(item, at=at, yaw=yaw, on=place, spot="on top")
            if place == salient or plan.clear_of_camera(item):
                plan.add_loose(item)


def _small(rng: Rng, base: Thing) -> Thing:
    kind = rng.pick(("vase", "vase", "lamp", "plant", "box", "ball", "screen"))
    if kind == "screen":
        return decor.screen(rng, small=base.size[0] < 1.1)
    return {
        "vase": lambda: decor.vase(rng),
        "lamp": lambda: decor.table_lamp(rng),
        "plant": lambda: decor.plant(rng, small=True),
        "box": lambda: decor.crate(rng, small=True),
        "ball": lambda: decor.ball(rng, small=True),
    }[kind]()
