import errno
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from disc_clips import Discs

from mmdiff_video import files, rooms
from mmdiff_video.errors import InputError
from mmdiff_video.locks import sole_writer
from mmdiff_video.pretraining import corpus
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


def test_two_that_start_together_draw_once_and_what_a_dead_one_left_goes(
    config: CorpusConfig, caplog: pytest.LogCaptureFixture
):
    folder = Path(str(config.dir))
    dead = folder / ".partial-0000-train-00001.npy"
    first, second = Discs(), Discs()
    folder.mkdir()
    with caplog.at_level(logging.INFO), ThreadPoolExecutor() as threads:
        with sole_writer(folder, "drawing a corpus"):
            dead.write_bytes(b"half")
            both = [threads.submit(make_corpus, config, source) for source in (first, second)]
            time.sleep(0.3)
            assert not first.drawn + second.drawn
        assert [future.result() for future in both] == [folder, folder]
    assert "waiting for another process" in caplog.text
    assert len(first.drawn + second.drawn) == 8
    assert not dead.exists()
    assert len(Corpus(folder, "train", 5)) == 5


def test_a_complete_corpus_may_lie_where_nothing_can_be_written(config: CorpusConfig, monkeypatch):
    folder = make_corpus(config, Discs())
    monkeypatch.setattr(corpus, "writer_in_turn", None)
    assert make_corpus(config, Discs()) == folder


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _of_another_size(file: Path) -> None:
    np.save(file, np.zeros((2, 2, 8, 11, 3), np.uint8))


def _of_another_type(file: Path) -> None:
    np.save(file, np.zeros((2, 2, 8, 12, 3), np.float32))


def _pickled(file: Path) -> None:
    np.save(file, np.array([{}]), allow_pickle=True)


def _text(file: Path) -> None:
    file.write_text("[1, 2]")


def _too_short(file: Path) -> None:
    file.write_text('["one caption"]')


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(
            ("train-00001.npy", damage)
            for damage in (_cut, _empty, _of_another_size, _of_another_type, _pickled, _text)
        ),
        *(("train-00001.json", damage) for damage in (_cut, _empty, _text, _too_short)),
    ],
)
def test_a_damaged_shard_is_named_and_drawn_anew_once_deleted(
    config: CorpusConfig, name: str, damage: Callable[[Path], None]
):
    folder = make_corpus(config, Discs())
    damage(folder / name)
    with pytest.raises(InputError, match=rf"{name}' is damaged .*: delete it, and the same"):
        Corpus(folder, "train", 5)
    (folder / name).unlink()
    with pytest.raises(InputError, match="1 of 3 shards of 'train' are missing"):
        Corpus(folder, "train", 5)
    source = Discs()
    make_corpus(config, source)
    assert source.drawn == ["train/2", "train/3"]
    assert len(Corpus(folder, "train", 5)) == 5


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"frames": "2"}'])
def test_a_damaged_manifest_is_named(config: CorpusConfig, text: str):
    folder = make_corpus(config, Discs())
    (folder / "corpus.json").write_text(text)
    with pytest.raises(InputError, match=r"corpus\.json"):
        Corpus(folder, "train", 5)


def test_a_full_disk_names_the_shard_and_drawing_goes_on_where_it_was(
    config: CorpusConfig, monkeypatch
):
    save = np.save

    def full(path: Path, pixels: np.ndarray) -> None:
        if "train-00001" in str(path):
            raise OSError("12345 requested and 0 written")  # as numpy does, without a number
        save(path, pixels)

    monkeypatch.setattr(np, "save", full)
    monkeypatch.setattr(files, "_disk_refusal", lambda aside: (errno.ENOSPC, aside))
    with pytest.raises(OSError, match="No space left") as caught:
        make_corpus(config, Discs())
    folder = Path(str(config.dir))
    assert caught.value.filename == str(folder / "train-00001.npy")
    assert not list(folder.glob(".partial-*"))
    monkeypatch.setattr(np, "save", save)
    source = Discs()
    make_corpus(config, source)
    assert source.drawn[0] == "train/2"


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
