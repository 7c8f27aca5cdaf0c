"""Captions from scene descriptions: what is seen, of which colour and material, and where."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdiff_video.rooms.plan import bounds
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import Room, Thing
from mmdiff_video.rooms.walk import eyes, intrinsics, viewmats

_MOST_WORDS = 58
_MOST_THINGS = 5
_SHELL = ("wall", "floor", "ceiling")


class _Seen(NamedTuple):
    """A thing as it stands in the picture: ``x`` and ``y`` in 0..1, its share of the picture."""

    thing: Thing
    place: int
    x: float
    y: float
    depth: float
    share: float


def describe(rng: Rng, room: Room) -> str:
    """Write a room's caption: the salient thing first, then what else the mid-walk view shows.

    At most about sixty words. "Left" and "right" are those of the picture.
    """
    star = room.things[room.salient]
    seen = {s.place: s for s in _in_view(room)}
    centre = seen.get(room.salient) or _look(room, room.salient)
    rug = _rug_below(room, star)
    sentences = [_opening(rng, room, star, rug)]
    clauses: list[str] = []
    told = [phrase(star), phrase(rug) if rug else ""]
    for other in sorted(seen.values(), key=lambda s: (-s.share, s.place)):
        name = phrase(other.thing)
        if other.place == room.salient or len(clauses) == _MOST_THINGS:
            continue
        if name in told:  # one of a set is enough
            continue
        told.append(name)
        clauses.append(_clause(rng, room, star, other, centre))
    while clauses:
        text = " ".join([*sentences, *_joined(rng, clauses)])
        if len(text.split()) <= _MOST_WORDS:
            return text
        clauses.pop()
    return sentences[0]


def phrase(thing: Thing) -> str:
    """Colour, material and name, for instance "red leather sofa"."""
    if thing.kind == "window":  # its frame's colour is nothing to speak of
        return thing.name
    return " ".join(word for word in (thing.color, thing.word, thing.name) if word)


def _a(text: str) -> str:
    if text.endswith("curtains"):
        return text
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _first_up(text: str) -> str:
    return text[0].upper() + text[1:]


# --- sentences -----------------------------------------------------------------------------------


def _opening(rng: Rng, room: Room, star: Thing, rug: Thing | None) -> str:
    walls = [t for t in room.things if t.kind == "wall"]
    floor = next(t for t in room.things if t.kind == "floor")
    wall = " ".join(word for word in (walls[0].color, walls[0].word) if word) + " walls"
    ground = _a(" ".join(word for word in (floor.color, floor.word, "floor") if word))
    if star.spot == "back wall":
        where = "against the back wall"
    elif rug is not None:
        where = f"on {_a(phrase(rug))}"
    else:
        where = rng.pick(("standing free", "in the open"))
    what = _first_up(_a(phrase(star)))
    return rng.pick(
        (
            f"{what} {where} in a room with {wall} and {ground}.",
            f"{what} {where} in a room with {ground} and {wall}.",
            f"{what} {where}, {wall}, {ground}.",
            f"{what} {where}. The room has {wall} and {ground}.",
            f"{what} in a room with {wall} and {ground}, {where}.",
        )
    )


def _rug_below(room: Room, thing: Thing) -> Thing | None:
    for other in room.things:
        if other.kind == "rug":
            low, high = bounds(other)
            if (low[:2] < thing.at[:2]).all() and (high[:2] > thing.at[:2]).all():
                return other
    return None


def _clause(rng: Rng, room: Room, star: Thing, other: _Seen, centre: _Seen) -> str:
    thing, name = other.thing, _a(phrase(other.thing))
    side = "left" if other.x < centre.x else "right"
    if thing.on is not None:
        base = room.things[thing.on]
        return f"{name} on {'it' if base is star else f'the {base.name}'}"
    if thing.spot == "ceiling":
        return f"{name} hanging from the ceiling"
    apart = abs(other.x - centre.x)
    if thing.kind in ("picture", "screen", "window", "door", "curtain"):
        if apart < 0.14:
            high = thing.at[2] > 0.6 and other.y < centre.y - 0.15
            return f"{name} {'above' if high else 'behind'} it"
        return f"{name} on the {side}" if rng.chance(0.5) else f"{name} on the {side} wall"
    if thing.kind == "rug":
        return f"{name} on the floor"
    if apart < 0.12:
        return f"{name} {'behind it' if other.depth > centre.depth else 'in front of it'}"
    if thing.spot == "corner":
        return f"{name} in the corner"
    return rng.pick(
        (f"{name} to its {side}", f"{name} on the {side}", f"{name} on the {side} side")
    )


def _joined(rng: Rng, clauses: list[str]) -> list[str]:
    """Make one or two sentences of the clauses."""

    def listed(items: list[str]) -> str:
        return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"

    half = len(clauses) if len(clauses) < 3 or rng.chance(0.4) else (len(clauses) + 1) // 2
    out = []
    for part in (clauses[:half], clauses[half:]):
        if part:
            text = listed(part)
            plural = len(part) > 1 or "curtains" in part[0]
            forms = (f"There {'are' if plural else 'is'} {text}.", f"{_first_up(text)}.",
                     f"We see {text}.")  # fmt: skip
            out.append(rng.pick(forms))
    return out


# --- what is in view -----------------------------------------------------------------------------


def _in_view(room: Room) -> list[_Seen]:
    """Things of which a fair part shows in the middle of the walk."""
    places = [i for i, thing in enumerate(room.things) if thing.kind not in _SHELL]
    found = (_look(room, place) for place in places)
    return [s for s in found if s.share > 0.004]


def _look(room: Room, place: int) -> _Seen:
    """Project a grid of a thing's points; those outside the picture or hidden do not count."""
    thing = room.things[place]
    view = viewmats(room.walk, np.array([0.5]))[0]
    eye = eyes(room.walk, np.array([0.5]))[0]
    K = intrinsics(room.walk, 1, 1)
    low, high = bounds(thing)
    steps = np.array([0.1, 0.5, 0.9])
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    points = low + (high - low) * grid
    local = points @ view[:3, :3].T + view[:3, 3]
    depth = np.maximum(local[:, 2], 0.05)
    pixels = (local[:, :2] / depth[:, None]) @ K[:2, :2].T + K[:2, 2]
    shown = (local[:, 2] > 0.1) & ((pixels > 0.02) & (pixels < 0.98)).all(1)
    for number, other in enumerate(room.things):
        if number != place and other.kind not in (*_SHELL, "rug") and other.on != place:
            shown &= ~_blocks(other, eye, points)
    if not shown.any():
        return _Seen(thing, place, 0.5, 0.5, float(depth.mean()), 0.0)
    extent = np.ptp(pixels.clip(0, 1), axis=0)
    share = float(np.round(extent[0] * extent[1] * shown.mean(), 3))
    x, y = np.round(pixels[shown].mean(0), 3)
    return _Seen(thing, place, float(x), float(y), float(depth.mean()), share)


def _blocks(other: Thing, eye: NDArray, points: NDArray) -> NDArray[np.bool_]:
    """Whether the box round a thing, a little shrunk, stands between the eye and each point."""
    low, high = bounds(other)
    inset = 0.1 * (high - low)
    step = points - eye
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    a, b = (low + inset - eye) / step, (high - inset - eye) / step
    enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    return (enter < leave) & (leave > 0) & (enter < 0.97)
