"""Which lights a room has: sky through its windows, sometimes the sun, and lamps."""

import math

import numpy as np

from mmdiff_video.rooms.plan import Plan
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import Lamp, Opening, Sun, Vec3, Walk

_WARM: Vec3 = (1.0, 0.82, 0.62)
_NEUTRAL: Vec3 = (1.0, 0.95, 0.88)
_SKY: Vec3 = (0.86, 0.94, 1.0)


def _times(color: Vec3, power: float) -> Vec3:
    return color[0] * power, color[1] * power, color[2] * power


def light(
    rng: Rng, plan: Plan, salient: int, walk: Walk
) -> tuple[tuple[Lamp, ...], tuple[Opening, ...], Sun | None, Vec3]:
    """Choose lamps, sky, sun and ambient colour so that the salient thing is well lit."""
    openings = _openings(rng, plan)
    sun = _sun(rng, openings) if rng.chance(0.5) else None
    lamps = [_key_light(rng, plan, salient, walk)]
    for thing in plan.things:
        if thing.kind == "lamp" and rng.chance(0.75):
            strength = rng.uniform(0.25, 0.6) if thing.size[2] < 0.9 else rng.uniform(0.4, 1.0)
            x, y, z = thing.at
            up = thing.size[2] * (0.2 if thing.spot == "ceiling" else 0.82)
            lamps.append(Lamp((x, y, z + up), _times(_WARM, strength), 0.05))
    tint = rng.pick((_NEUTRAL, _SKY, (1.0, 1.0, 1.0)))
    return tuple(lamps), openings, sun, _times(tint, rng.uniform(0.28, 0.45))


def _key_light(rng: Rng, plan: Plan, salient: int, walk: Walk) -> Lamp:
    """A ceiling light between the camera and the salient thing, to one side."""
    star = plan.things[salient].at
    eye = walk.eyes[len(walk.eyes) // 2]
    t = rng.uniform(0.35, 0.75)
    side = rng.sign() * rng.uniform(0.3, 1.0)
    width, depth, height = plan.size
    x = min(max(star[0] + (eye[0] - star[0]) * t + side, 0.4), width - 0.4)
    y = min(max(star[1] + (eye[1] - star[1]) * t, 0.4), depth - 0.4)
    tint = rng.pick((_NEUTRAL, _NEUTRAL, _WARM, (1.0, 1.0, 1.0)))
    return Lamp((x, y, height - 0.25), _times(tint, rng.uniform(2.2, 3.6)), 0.15)


def _openings(rng: Rng, plan: Plan) -> tuple[Opening, ...]:
    found = []
    for thing in plan.things:
        if thing.kind == "window":
            x, y, z = thing.at
            c, s = math.cos(thing.yaw), math.sin(thing.yaw)
            w, h = (thing.size[0] - 0.12) / 2, thing.size[2] / 2
            normal = (s, -c, 0.0)
            at = (x + normal[0] * 0.05, y + normal[1] * 0.05, z + h)
            power = _times(_SKY, rng.uniform(2.0, 4.0))
            found.append(Opening(at, (w * c, w * s, 0.0), (0.0, 0.0, h), normal, power))
    return tuple(found)


def _sun(rng: Rng, openings: tuple[Opening, ...]) -> Sun | None:
    """Let the sun shine in through one of the windows."""
    if not openings:
        return None
    n = rng.pick(openings).normal
    turn, height = rng.uniform(-0.8, 0.8), rng.uniform(0.35, 0.9)
    c, s = math.cos(turn), math.sin(turn)
    out = np.array([-n[0] * c + n[1] * s, -n[0] * s - n[1] * c, math.tan(height)])
    x, y, z = out / np.linalg.norm(out)
    return Sun((float(x), float(y), float(z)), _times((1.0, 0.93, 0.78), rng.uniform(2.5, 4.5)))
