"""Short words for parts, so that furniture reads as a list of them. Sizes are full, not half."""

from mmdiff_video.rooms.materials import Material
from mmdiff_video.rooms.scene import Blob, Box, Drape, Lathe, Part, Vec3

STILL: Vec3 = (0.0, 0.0, 0.0)


def box(
    at: Vec3, size: Vec3, material: Material, *, taper: float = 1.0, turn: Vec3 = STILL
) -> Part:
    """A box whose bottom's middle is ``at`` (before it is turned round its own middle)."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Part(Box(half, taper), material, (at[0], at[1], at[2] + half[2]), turn)


def cushion(
    at: Vec3, size: Vec3, material: Material, *, power: float = 4.0, turn: Vec3 = STILL
) -> Part:
    """A rounded box whose bottom's middle is ``at``; ``power`` 2 makes an ellipsoid."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Part(Blob(half, power), material, (at[0], at[1], at[2] + half[2]), turn)


def lathe(
    at: Vec3,
    profile: list[tuple[float, float]],
    material: Material,
    *,
    sides: int = 20,
    turn: Vec3 = STILL,
) -> Part:
    """A turned piece; ``profile`` lists (radius, height above ``at``)."""
    return Part(Lathe(tuple(profile), sides), material, at, turn)


def rod(
    at: Vec3, radius: float, height: float, material: Material, *, top: float = 1.0,
    sides: int = 10, turn: Vec3 = STILL,
) -> Part:  # fmt: skip
    """An upright cylinder; its top is ``top`` times as wide."""
    ends = [(radius, 0.0), (radius * top, height), (0.0, height)]
    return lathe(at, ends, material, sides=sides, turn=turn)


def globe(at: Vec3, radius: float, material: Material) -> Part:
    """A sphere whose lowest point is ``at``."""
    return Part(Blob((radius, radius, radius), 2.0), material, (at[0], at[1], at[2] + radius))


def drape(at: Vec3, width: float, height: float, waves: int, fold: float, cloth: Material) -> Part:
    """A hanging cloth whose lower edge's middle is ``at``."""
    return Part(
        Drape((width / 2, height / 2), waves, fold), cloth, (at[0], at[1], at[2] + height / 2)
    )


def four(x: float, y: float) -> tuple[tuple[float, float], ...]:
    """The four corners at +-x, +-y."""
    return ((-x, -y), (x, -y), (-x, y), (x, y))
