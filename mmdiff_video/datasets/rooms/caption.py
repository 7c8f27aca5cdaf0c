"""Captions from scene descriptions: what is seen, its colours and materials, and where it stands."""

from mmdiff_video.datasets.rooms.draw import Draw
from mmdiff_video.datasets.rooms.scene import Room, Thing


def describe(draw: Draw, room: Room) -> str:
    """Write the caption of a room."""
    return f"A {phrase(room.things[room.salient])} in a room."


def phrase(thing: Thing) -> str:
    """Colour, material and name, for instance "red leather sofa"."""
    return " ".join(word for word in (thing.color, thing.word, thing.name) if word)
