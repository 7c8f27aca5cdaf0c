import dataclasses
import re

import numpy as np
import pytest

from mmdiff_video.errors import InputError
from mmdiff_video.rooms import CLASSES, SPLITS, make_room, scene_hash
from mmdiff_video.rooms.plan import bounds
from mmdiff_video.rooms.rng import Rng
from mmdiff_video.rooms.scene import rounded
from mmdiff_video.rooms.walk import eyes, viewmats

GOLDEN = {
    ("train", 0, 0): "d6cdd0ec086306c5",
    ("train", 1, 0): "068c318249e9e5d3",
    ("train", 12345, 0): "0658ca4f180adf3f",
    ("val", 0, 0): "9c516d0d69004794",
    ("test", 7, 0): "2c5bb56377af494c",
    ("train", 0, 1): "d9d6c861c8df663d",
}


@pytest.fixture(scope="module")
def rooms():
    return [make_room("train", index) for index in range(40)]


@pytest.mark.parametrize("key", GOLDEN, ids=str)
def test_a_room_is_the_same_everywhere(key):
    split, index, seed = key
    assert scene_hash(make_room(split, index, seed)) == GOLDEN[key]


def test_digits_below_a_tenth_of_a_millimetre_do_not_change_the_hash():
    room = make_room("train", 3)
    assert rounded(room) == room
    shifted = dataclasses.replace(room, size=tuple(side + 1e-9 for side in room.size))
    assert shifted != room
    assert scene_hash(shifted) == scene_hash(room)
    moved = dataclasses.replace(room, size=tuple(side + 1e-3 for side in room.size))
    assert scene_hash(moved) != scene_hash(room)


def test_splits_and_seeds_share_no_room():
    hashes = [
        scene_hash(dataclasses.replace(make_room(split, index, seed), split="", index=0, seed=0))
        for split in SPLITS
        for seed in (0, 1)
        for index in range(12)
    ]
    assert len(set(hashes)) == len(hashes)


def test_chance_stays_in_its_ranges():
    rng = Rng(5)
    assert all(2 <= rng.uniform(2, 3) <= 3 for _ in range(200))
    assert {rng.integer(1, 3) for _ in range(200)} == {1, 2, 3}
    assert {rng.sign() for _ in range(50)} == {-1, 1}
    assert sorted(rng.shuffled("abcdef")) == list("abcdef")


def test_standing_things_keep_apart_and_inside(rooms):
    for room in rooms:
        standing = [
            t for t in room.things if t.on is None and t.at[2] == 0 and t.size[2] > 0.05
            and t.kind not in ("wall", "floor", "ceiling", "door", "curtain", "window", "rug")
        ]  # fmt: skip
        for i, thing in enumerate(standing):
            low, high = bounds(thing)
            assert (low[:2] > -1e-3).all()
            assert (high < np.array(room.size) + 1e-3).all()
            for other in standing[:i]:
                if "at the table" in (thing.spot, other.spot):
                    continue  # chairs are pushed under their table
                low2, high2 = bounds(other)
                assert ((low[:2] > high2[:2] - 1e-3) | (high[:2] < low2[:2] + 1e-3)).any(), (
                    room.index, thing.name, other.name,
                )  # fmt: skip


def test_what_stands_on_something_is_above_it(rooms):
    found = 0
    for room in rooms:
        for thing in room.things:
            if thing.on is not None:
                base = room.things[thing.on]
                low, high = bounds(base)
                assert thing.at[2] == pytest.approx(base.at[2] + base.size[2], abs=2e-4)
                assert (low[:2] < thing.at[:2]).all()
                assert (high[:2] > thing.at[:2]).all()
                found += 1
    assert found > 20


def test_the_walk_is_smooth_and_never_near_anything(rooms):
    time = np.linspace(0, 1, 60)
    for room in rooms:
        path = eyes(room.walk, time)
        assert (path > 0.25).all()
        assert (path < np.array(room.size) - 0.25).all()
        for thing in room.things:
            if thing.kind not in ("wall", "floor", "ceiling", "rug"):
                low, high = bounds(thing)
                gap = np.maximum(np.maximum(low - path, path - high), 0)
                assert np.linalg.norm(gap, axis=1).min() > 0.1, (room.index, thing.name)
        steps = np.diff(path, axis=0)
        assert np.linalg.norm(steps, axis=1).max() < 0.1
        assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < 0.01
        assert 0.2 < np.linalg.norm(path[-1] - path[0]) < 2.5


def test_the_walk_looks_at_the_salient_thing(rooms):
    for room in rooms:
        star = room.things[room.salient]
        low, high = bounds(star)
        views = viewmats(room.walk, np.linspace(0, 1, 5))
        np.testing.assert_allclose(
            views[:, :3, :3] @ views[:, :3, :3].transpose(0, 2, 1),
            np.broadcast_to(np.eye(3), (5, 3, 3)),
            atol=1e-9,
        )
        centre = views[:, :3, :3] @ ((low + high) / 2) + views[:, :3, 3]
        assert (centre[:, 2] > 0.5).all()
        assert (np.abs(centre[:, :2]) < 0.5 * centre[:, 2:] / room.walk.focal).all()


def test_captions_say_what_is_there(rooms):
    names = {entry.name for entry in CLASSES}
    openings = set()
    for room in rooms:
        star = room.things[room.salient]
        first = re.split(r"[.,]", room.caption)[0]
        assert star.name in first
        assert star.color in first.lower()
        assert len(room.caption.split()) <= 60
        assert room.caption.endswith(".")
        assert " walls" in room.caption
        assert " floor" in room.caption
        assert {thing.kind for thing in room.things} <= names
        openings.add(first.split(star.name)[1][:12])
    assert len(openings) > 3


def test_rooms_vary(rooms):
    kinds = {room.things[room.salient].kind for room in rooms}
    assert len(kinds) > 6
    used = {thing.kind for room in rooms for thing in room.things}
    assert used == {entry.name for entry in CLASSES}
    patterns = {part.material.pattern for r in rooms for t in r.things for part in t.parts}
    assert len(patterns) > 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian", 0, 0), "did you mean 'train'"),
        (("train", -1, 0), "^room index is -1: it must be 0 or more$"),
        (("train", 0, -1), "^seed is -1: a seed must be from 0 to"),
    ],
)
def test_impossible_rooms_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_room(*arguments)
