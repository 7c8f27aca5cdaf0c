"""What the cache does with its folder: damage, refusals, budget, several processes."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest
from counting_backbone import CountingBackbone, assert_equal, clips, entries, extractor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.features.cached_extractor import entry_address, entry_bytes


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip(where: float):
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(where * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def _swap(path: Path) -> None:
    """Put another sample's entry, whole in itself, in this one's place."""
    other = next(p for p in entries(path.parent.parent) if p != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "damage",
    # near the start lies the header, with names, shapes and the address
    [_truncate, _empty, _swap, *[_flip(i / 40) for i in range(41)]],
)
def test_a_damaged_entry_is_noticed_and_computed_anew(tmp_path: Path, damage, caplog):
    video, keys = clips(2)
    whole = extractor(tmp_path).extract(video, keys=keys)
    damage(entries(tmp_path)[0])
    backbone = CountingBackbone()
    cached = extractor(tmp_path, backbone)
    with caplog.at_level(logging.WARNING):
        assert_equal(cached.extract(video, keys=keys), whole)
    assert len(backbone.asked) == 1
    assert (cached.cache.stats.damaged, cached.cache.stats.hits) == (1, 1)
    assert "damaged entry" in caplog.text
    extractor(tmp_path, backbone).extract(video, keys=keys)
    assert len(backbone.asked) == 1, "mended on disk"


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_an_entry_that_cannot_be_touched_is_read_all_the_same(tmp_path: Path, monkeypatch):
    video, keys = clips(2)
    whole = extractor(tmp_path).extract(video, keys=keys)
    monkeypatch.setattr(os, "utime", _refuse)
    backbone = CountingBackbone()
    cached = extractor(tmp_path, backbone)
    assert_equal(cached.extract(video, keys=keys), whole)
    assert backbone.asked == []
    assert (cached.cache.stats.hits, cached.cache.stats.damaged) == (2, 0)
    assert len(entries(tmp_path)) == 2


def test_an_entry_that_cannot_be_read_is_computed_and_left_alone(
    tmp_path: Path, monkeypatch, caplog
):
    video, keys = clips(2)
    whole = extractor(tmp_path).extract(video, keys=keys)
    before = {path: path.read_bytes() for path in entries(tmp_path)}
    monkeypatch.setattr("mmdiff_video.features.cache.safe_open", _refuse)
    monkeypatch.setattr("mmdiff_video.features.cache.save_file", _refuse)
    cached = extractor(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert_equal(cached.extract(video, keys=keys), whole)
    assert (cached.cache.stats.misses, cached.cache.stats.damaged) == (2, 0)
    assert {path: path.read_bytes() for path in entries(tmp_path)} == before
    assert caplog.text.count("cannot read entry") == 2


def test_damaged_or_old_entries_that_cannot_be_deleted_do_not_stop_a_run(
    tmp_path: Path, monkeypatch
):
    video, keys = clips(2)
    whole = extractor(tmp_path).extract(video, keys=keys)
    _truncate(entries(tmp_path)[0])
    monkeypatch.setattr(Path, "unlink", _refuse)
    monkeypatch.setattr("mmdiff_video.features.cache.save_file", _refuse)
    one = entry_bytes(cast(Backbone, CountingBackbone()), frames=5, height=32, width=48)
    cached = extractor(tmp_path, budget_gb=1.5 * one / 2**30)
    assert_equal(cached.extract(video, keys=keys), whole)
    assert (cached.cache.stats.damaged, cached.cache.stats.evicted) == (1, 0)


def test_the_least_recently_used_entries_go_first(tmp_path: Path):
    video, keys = clips(8)
    extractor(tmp_path / "probe").extract(video[:1], keys=keys[:1])
    size = entries(tmp_path / "probe")[0].stat().st_size
    budget = 4.5 * size

    backbone = CountingBackbone()
    cached = extractor(tmp_path / "cache", backbone, budget / 2**30)

    def use(*which: int) -> None:
        cached.extract(video[list(which)], keys=[keys[i] for i in which])
        # file times may be too coarse to tell two uses apart
        for path in entries(tmp_path / "cache"):
            status = path.stat()
            os.utime(path, (status.st_atime, status.st_mtime - 10))

    for i in range(4):
        use(i)
    use(0)
    use(4)
    assert sum(p.stat().st_size for p in entries(tmp_path / "cache")) <= budget
    assert cached.cache.stats.evicted == 1
    backbone.asked.clear()
    use(0, 2, 3, 4)
    assert backbone.asked == []
    use(1)
    assert backbone.asked == ["clip-1"]


def test_the_budget_holds_however_much_is_stored(tmp_path: Path):
    video, keys = clips(40)
    one = entry_bytes(cast(Backbone, CountingBackbone()), frames=5, height=32, width=48)
    budget = 12 * one
    cached = extractor(tmp_path, budget_gb=budget / 2**30)
    for i in range(40):
        cached.extract(video[[i]], keys=[keys[i]])
        assert sum(p.stat().st_size for p in entries(tmp_path)) <= budget
    assert len(entries(tmp_path)) >= 5


def test_a_sample_larger_than_the_budget_is_not_cached_and_said_once(tmp_path: Path, caplog):
    video, keys = clips(2)
    cached = extractor(tmp_path, budget_gb=1e-9)
    with caplog.at_level(logging.WARNING):
        first = cached.extract(video, keys=keys)
        assert_equal(cached.extract(video, keys=keys), first)
    assert entries(tmp_path) == []
    assert caplog.text.count("going on without caching") == 1


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    video, keys = clips(2)
    with caplog.at_level(logging.WARNING):
        features = extractor(tmp_path / "cache").extract(video, keys=keys)
    assert_equal(features, extractor(tmp_path / "good").extract(video, keys=keys))
    assert caplog.text.count("cannot write") == 1


def test_what_a_killed_writer_left_is_no_entry_and_goes_in_time(tmp_path: Path):
    video, keys = clips(2)
    address = entry_address(
        cast(Backbone, CountingBackbone()),
        video[0],
        ["block.0", "block.1"],
        (0.7, 0.1),
        "a room",
        0,
        "clip-0",
    )
    program = (
        "import os, signal, sys, pathlib, torch\n"
        "import mmdiff_video.features.cache as cache\n"
        "save = cache.save_file\n"
        "def half(tensors, path, metadata):\n"
        "    save(tensors, path, metadata)\n"
        "    os.truncate(path, 200)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.save_file = half\n"
        "store = cache.FeatureCache(pathlib.Path(sys.argv[1]), 1.0)\n"
        "store.store(sys.argv[2], cache.Entry({'latent': torch.ones(3)}, (0.7, 0.1)))\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), address],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL
    left = entries(tmp_path)
    assert len(left) == 1

    backbone = CountingBackbone()
    cached = extractor(tmp_path, backbone)
    cached.extract(video[:1], keys=keys[:1])
    assert backbone.asked == ["clip-0"]
    assert cached.cache.stats.damaged == 0
    assert left[0].exists(), "another process may be writing it"
    os.utime(left[0], (time.time() - 7200,) * 2)
    extractor(tmp_path).extract(video[1:], keys=keys[1:])
    assert not left[0].exists()


def test_processes_that_write_the_same_entry_leave_a_whole_one(tmp_path: Path):
    program = (
        "import sys, pathlib, torch\n"
        "from mmdiff_video.features.cache import Entry, FeatureCache\n"
        "cache = FeatureCache(pathlib.Path(sys.argv[1]), 1.0)\n"
        "entry = Entry({'latent': torch.arange(200_000.0)}, (0.5,))\n"
        "for _ in range(40):\n"
        "    cache.store('ab12', entry)\n"
        "    found = cache.load('ab12')\n"
        "    assert found is not None and torch.equal(found.tensors['latent'],"
        " entry.tensors['latent'])\n"
        "assert cache.stats.damaged == 0\n"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=environment)
        for _ in range(2)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert [p.name for p in entries(tmp_path)] == ["ab12.safetensors"]
