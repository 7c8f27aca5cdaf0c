"""What the cache does with its folder: damage, refusals, budget, several processes."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from counting_backbone import CountingBackbone, assert_equal, clips, entries, extractor
from safetensors.torch import save_file

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.errors import InputError
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import entry_address, entry_bytes
from mmdiff_video.tensors import save_tensors


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
    monkeypatch.setattr("mmdiff_video.features.cache.load_tensors", _refuse)
    monkeypatch.setattr("mmdiff_video.features.cache.save_tensors", _refuse)
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
    monkeypatch.setattr("mmdiff_video.features.cache.save_tensors", _refuse)
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
        "save = cache.save_tensors\n"
        "def half(path, tensors, metadata):\n"
        "    save(path, tensors, metadata)\n"
        "    os.truncate(path, 200)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.save_tensors = half\n"
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
        "for _ in range(20):\n"
        "    cache.store('ab12' * 16, entry)\n"
        "    found = cache.load('ab12' * 16)\n"
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
    assert [p.name for p in entries(tmp_path)] == [f"{'ab12' * 16}.safetensors"]


def test_only_entries_are_counted_and_deleted(tmp_path: Path):
    root = tmp_path / "cache"
    video, keys = clips(12)
    extractor(root).extract(video[:1], keys=keys[:1])
    elsewhere = tmp_path / "elsewhere"
    folder = entries(root)[0].parent
    precious = [
        root / "v1" / "model.safetensors",
        root / "ab" / "model.safetensors",
        root / "cd" / f"{'ab' * 32}.safetensors",
        folder / f"{folder.name}.safetensors",
        folder / f"{'AB' * 32}.safetensors",
        elsewhere / f"{'ef' * 32}.safetensors",
    ]
    for path in precious:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(bytes(100_000))
        os.utime(path, (0, 0))
    (root / "ef").symlink_to(elsewhere)
    (folder / f"{folder.name}{'0' * 62}.safetensors").symlink_to(precious[0])
    one = entry_bytes(cast(Backbone, CountingBackbone()), frames=5, height=32, width=48)
    cached = extractor(root, budget_gb=2.5 * one / 2**30)
    for i in range(12):
        cached.extract(video[[i]], keys=[keys[i]])
    assert cached.cache.stats.evicted >= 6
    assert all(path.stat().st_size == 100_000 for path in precious)


@pytest.mark.parametrize(
    "name",
    [
        "v1/model.safetensors",
        "model.safetensors",
        "ab/model.safetensors",
        f"ab/{'cd' * 32}.safetensors",
        f"models--org--name/{'ab' * 32}.safetensors",
        "ab/deeper/x",
        "CACHEDIR.TAG",
    ],
)
def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("Signature: 8a477f597d28d172789f06886806bc55")
    with pytest.raises(InputError, match=r"cache\.dir: .* holds other files than a feature cache"):
        FeatureCache(tmp_path, 1.0)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_link_to_a_folder_is_no_part_of_a_cache(tmp_path: Path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ab").symlink_to(tmp_path)
    with pytest.raises(InputError, match="such as 'ab'"):
        FeatureCache(tmp_path / "cache", 1.0)


def test_a_new_cache_is_marked_and_opens_again_beside_other_files(tmp_path: Path):
    video, keys = clips(1)
    (tmp_path / ".DS_Store").write_text("")
    whole = extractor(tmp_path).extract(video, keys=keys)
    assert (tmp_path / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f068")
    (tmp_path / "notes.txt").write_text("mine")
    backbone = CountingBackbone()
    assert_equal(extractor(tmp_path, backbone).extract(video, keys=keys), whole)
    assert backbone.asked == []


def test_a_cache_of_version_0_1_goes_on(tmp_path: Path):
    """It has no mark, and no word in an entry that says that there should be a checksum."""
    address = "ab" * 32
    path = tmp_path / "ab" / f"{address}.safetensors"
    path.parent.mkdir()
    latent = torch.arange(6.0)
    metadata = {"address": address, "sigmas": "[0.5]"}
    layout = json.dumps([[["latent", "torch.float32", [6]]], sorted(metadata.items())])
    crc = zlib.crc32(latent.numpy().tobytes(), zlib.crc32(layout.encode()))
    save_file({"latent": latent}, path, {**metadata, "checksum": f"{crc:08x}"})
    cache = FeatureCache(tmp_path, 1.0)
    found = cache.load(address)
    assert found is not None
    assert torch.equal(found.tensors["latent"], latent)
    cache.store("cd" * 32, found)
    assert (tmp_path / "CACHEDIR.TAG").exists()


@pytest.mark.parametrize("sigmas", ["[[]]", "{", "7", '["x"]', "[" * 9000])
def test_entries_without_checksum_or_sigmas_are_damaged(tmp_path: Path, sigmas: str):
    cache = FeatureCache(tmp_path, 1.0)
    for number, save in enumerate((save_tensors, lambda p, t, m: save_file(t, p, m))):
        address = f"ab{number}" + "0" * 61
        path = tmp_path / "ab" / f"{address}.safetensors"
        path.parent.mkdir(exist_ok=True)
        text = sigmas if number == 0 else "[0.5]"
        save(path, {"latent": torch.ones(2)}, {"address": address, "sigmas": text})
        assert cache.load(address) is None
        assert not path.exists()
    assert cache.stats.damaged == 2
