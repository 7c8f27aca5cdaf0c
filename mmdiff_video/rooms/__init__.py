"""Rooms: a procedural data set of furnished rooms seen along a walk, with exact ground truth.

>>> room = make_room("train", 0)
>>> clip = render_room(room, frames=17, height=128, width=128)
"""

from mmdiff_video.rooms.classes import CLASS_IDS, CLASSES
from mmdiff_video.rooms.layout import SPLITS, make_room
from mmdiff_video.rooms.pool import render_rooms
from mmdiff_video.rooms.render import DRAWING, RoomClip, render_room
from mmdiff_video.rooms.scene import Room, scene_hash

__all__ = [
    "CLASSES",
    "CLASS_IDS",
    "DRAWING",
    "SPLITS",
    "Room",
    "RoomClip",
    "make_room",
    "render_room",
    "render_rooms",
    "scene_hash",
]
