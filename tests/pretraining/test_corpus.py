import os
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from disc_clips import Discs

from mmdiff_video import rooms
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside
from mmdiff_video.pretraining import rooms as rooms_source
from mmdiff_video.pretraining.corpus import Corpus, CorpusConfig, make_corpus
from mmdiff_video.pretraining.rooms import RoomSource


@pytest.fixture
def config(tmp_path: Path) -> CorpusConfig:
    return CorpusConfig(
        dir=str(tmp_path / "corpus"),
        train_clips=5,
        val_clips=2,
        frames=2,
        height=8,
        width=12,
        shard_clips=2,
    )


def test_clips_and_captions_come_back(config: CorpusConfig):
    folder = make_corpus(config, Discs())
    train = Corpus(folder, "train", 5)
    expected = list(Discs().draw("train", range(5), config))
    assert train.captions == [caption for _, caption in expected]
    for i, (clip, _) in enumerate(expected):
        assert np.array_equal(train.clip(i), clip)
    assert len(Corpus(folder, "val", 2)) == 2


def test_drawing_goes_on_with_the_first_missing_shard(config: CorpusConfig):
    class Breaks(Discs):
        def draw(self, split, indices, config):
            for index in indices:
                if index == 2:
                    raise KeyboardInterrupt
                yield from super().draw(split, [index], config)

    with pytest.raises(KeyboardInterrupt):
        make_corpus(config, Breaks())
    with pytest.raises(InputError, match="2 of 3 shards of 'train' are missing"):
        Corpus(Path(str(config.dir)), "train", 5)
    source = Discs()
    make_corpus(config, source)
    assert source.drawn == [f"train/{i}" for i in (2, 3, 4, 5)] + ["val/0", "val/1"]


def test_what_another_run_is_writing_stays_and_what_a_dead_one_left_goes(config: CorpusConfig):
    folder = Path(str(config.dir))
    dead = folder / ".partial-train-00001-0000.npy"
    with write_aside(folder / "train-00000.npy") as living:
        for left in (living, dead):
            left.write_bytes(b"half")
        os.utime(dead, (time.time() - 7200,) * 2)
        make_corpus(config, Discs())
        assert living.exists()
        assert not dead.exists()
        living.write_bytes((folder / "train-00000.npy").read_bytes())
    assert len(Corpus(folder, "train", 5)) == 5


def test_more_clips_add_shards_and_fewer_use_the_first(config: CorpusConfig):
    folder = make_corpus(config, Discs())
    source = Discs()
    make_corpus(replace(config, train_clips=8), source)
    assert source.drawn == ["train/6", "train/7"]
    assert len(Corpus(folder, "train", 3)) == 3


def test_a_corpus_belongs_to_its_settings_and_generator(config: CorpusConfig):
    make_corpus(config, Discs())
    with pytest.raises(InputError, match="clips of width 12, not 16"):
        make_corpus(replace(config, width=16), Discs())
    # what a newer generator would draw is another matter, as long as nothing is missing
    make_corpus(config, Discs(version=2))
    with pytest.raises(InputError, match=r"generator .*set corpus.dir to another folder"):
        make_corpus(replace(config, train_clips=8), Discs(version=2))


def test_without_a_folder_the_contents_name_it(config: CorpusConfig, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("MMDIFF_CACHE", str(tmp_path))
    nameless = replace(config, dir=None)
    first, second = make_corpus(nameless, Discs()), make_corpus(nameless, Discs(version=2))
    assert first != second
    assert make_corpus(nameless, Discs()) == first


def test_wrong_folders_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"is not a corpus: it has no corpus.json"):
        Corpus(tmp_path, "train", 1)
    with pytest.raises(InputError, match="train_clips is 0"):
        CorpusConfig(train_clips=0)


def test_every_clip_shows_the_middle_of_its_rooms_walk_at_a_speed_of_its_own(monkeypatch):
    seen: list[tuple[float, float]] = []

    def draw_rooms(rooms, *, spans, **_):
        seen.extend(span for _, span in zip(rooms, spans, strict=True))
        return iter(())

    monkeypatch.setattr("mmdiff_video.rooms.draw_rooms", draw_rooms)
    config = CorpusConfig(walk=(0.2, 0.9))
    list(RoomSource().draw("val", range(3, 9), config))
    assert all(0 <= first < 0.5 < last <= 1 for first, last in seen)
    shares = [last - first for first, last in seen]
    assert min(shares) >= 0.2
    assert max(shares) <= 0.9
    assert len(set(shares)) == 6
    list(RoomSource().draw("val", range(4, 5), config))  # whatever it is drawn with
    assert seen[-1] == seen[1]


def test_rooms_are_known_by_every_kind_of_thing_and_by_their_captions(monkeypatch):
    made = cache(rooms.make_room)
    shown = {thing.kind for i in range(rooms_source._HASHED) for thing in made("train", i).things}
    first = {thing.kind for thing in made("train", 0).things}
    assert shown >= {thing.kind for i in range(40) for thing in made("train", i).things}

    def key(change) -> dict:
        rooms_source._scenes.cache_clear()
        monkeypatch.setattr(rooms, "make_room", lambda split, index: change(made(split, index)))
        return RoomSource().key

    def without_others(room):
        return replace(room, things=tuple(t for t in room.things if t.kind in first))

    now = key(lambda room: room)
    assert key(lambda room: room) == now
    assert key(without_others) != now
    assert key(lambda room: replace(room, caption=room.caption.replace("sofa", "couch"))) != now
    rooms_source._scenes.cache_clear()
