"""The classes of the rooms data set: names, ids and label colours, in one table."""

from typing import NamedTuple

VOID = 255
"""The label that no class has, as in VOC."""


class RoomClass(NamedTuple):
    """One class: its place in :data:`CLASSES` is its id. ``color`` is its label colour, 0..255."""

    name: str
    color: tuple[int, int, int]


CLASSES: tuple[RoomClass, ...] = (
    RoomClass("wall", (174, 199, 232)),
    RoomClass("floor", (152, 223, 138)),
    RoomClass("ceiling", (219, 219, 219)),
    RoomClass("window", (23, 190, 207)),
    RoomClass("door", (197, 176, 213)),
    RoomClass("curtain", (148, 103, 189)),
    RoomClass("picture", (255, 187, 120)),
    RoomClass("rug", (247, 182, 210)),
    RoomClass("chair", (214, 39, 40)),
    RoomClass("sofa", (140, 86, 75)),
    RoomClass("bed", (31, 119, 180)),
    RoomClass("table", (255, 127, 14)),
    RoomClass("cabinet", (227, 119, 194)),
    RoomClass("shelf", (188, 189, 34)),
    RoomClass("lamp", (255, 230, 80)),
    RoomClass("plant", (44, 160, 44)),
    RoomClass("screen", (60, 60, 90)),
    RoomClass("box", (160, 110, 60)),
    RoomClass("ball", (255, 80, 120)),
    RoomClass("vase", (0, 128, 128)),
)
"""What things in a room can be; the place of a class is its label."""

CLASS_IDS: dict[str, int] = {entry.name: i for i, entry in enumerate(CLASSES)}
