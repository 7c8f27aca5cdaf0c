"""Rooms: a procedural data set of furnished rooms seen along a walk, with exact ground truth.

>>> room = make_room("train", 0)
>>> clip = draw_room(room, frames=17, height=128, width=128)
"""

from mmdiff_video.rooms.classes import CLASS_IDS, CLASSES
from mmdiff_video.rooms.drawing import DRAWING, RoomClip, draw_room
from mmdiff_video.rooms.furnishing import SPLITS, make_room
from mmdiff_video.rooms.pool import draw_rooms
from mmdiff_video.rooms.scene import Room, scene_hash

__all__ = [
    "CLASSES",
    "CLASS_IDS",
    "DRAWING",
    "SPLITS",
    "Room",
    "RoomClip",
    "draw_room",
    "draw_rooms",
    "make_room",
    "scene_hash",
]
