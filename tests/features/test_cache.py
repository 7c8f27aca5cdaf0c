import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mmdiff_video.backbones.base import Backbone, LatentGeometry, keyed_noise
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import CachedExtractor, entry_address, entry_bytes
from mmdiff_video.features.types import DiTFeatures, TapSpec

SPECS = [TapSpec("block.0", "block", 0, 6), TapSpec("block.1", "block", 1, 10)]


class Fake:
    """Features that depend on everything a backbone's do; counts the samples it is asked for."""

    geometry = LatentGeometry(channels=3, time_stride=4, space_stride=8, patch=2, is_video=True)
    device = torch.device("cpu")

    def __init__(
        self,
        fingerprint: str = "weights",
        dtype: torch.dtype = torch.float32,
        vae_settings: dict[str, Any] | None = None,
        **defaults: Any,
    ):
        self.defaults = SimpleNamespace(
            **{
                "taps": ("block.0", "block.1"),
                "timesteps": (0.7, 0.1),
                "prompt": "a room",
                "text_tokens": 8,
                "extract_guidance": None,
                **defaults,
            }
        )
        self.fingerprint = fingerprint
        self.dtype = dtype
        self.vae_settings = vae_settings or {}
        self.untrained = True
        self.asked: list[str] = []

    def resolve_taps(self, taps: Sequence[str | int] | None = None) -> list[TapSpec]:
        wanted = self.defaults.taps if taps is None else taps
        return [s for s in SPECS if s.name in wanted or s.index in wanted]

    def extract(
        self, video, prompt=None, taps=None, timesteps=None, *, keys, seed=0, chunk=None
    ) -> DiTFeatures:
        assert len(video) == len(prompt) == len(keys)
        self.asked += keys
        grid = self.geometry.token_grid(*video.shape[2:])
        latent_grid = self.geometry.latent_grid(*video.shape[2:])
        names = [f"{key}/{text}/{self.fingerprint}" for key, text in zip(keys, prompt, strict=True)]
        level = video.mean((1, 2, 3, 4))

        def draw(name: str, *shape: int) -> Tensor:
            noise = keyed_noise([f"{name}/{n}" for n in names], seed, shape)
            return noise + level.reshape(-1, *[1] * len(shape))

        return DiTFeatures(
            maps={
                s.name: torch.stack(
                    [draw(f"{s.name}/{t}", s.width, *grid) for t in timesteps], 1
                ).to(self.dtype)
                for s in self.resolve_taps(taps)
            },
            timesteps=tuple(timesteps),
            sigmas=tuple(timesteps),
            latent=draw("latent", self.geometry.channels, *latent_grid),
            untrained=self.untrained,
        )


def extractor(root: Path, backbone: Fake | None = None, budget_gb: float = 1.0) -> CachedExtractor:
    return CachedExtractor(
        cast(Backbone, backbone or Fake()), FeatureCache(root, budget_gb=budget_gb)
    )


def clips(count: int = 3) -> tuple[Tensor, list[str]]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 5, 32, 48, generator=generator), [f"clip-{i}" for i in range(count)]


def assert_equal(a: DiTFeatures, b: DiTFeatures) -> None:
    assert (a.timesteps, a.sigmas, a.untrained) == (b.timesteps, b.sigmas, b.untrained)
    assert a.maps.keys() == b.maps.keys()
    for name in a.maps:
        assert a.maps[name].dtype == b.maps[name].dtype
        assert torch.equal(a.maps[name], b.maps[name]), name
    assert torch.equal(a.latent, b.latent)


def entries(root: Path) -> list[Path]:
    return sorted(root.glob("??/*.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cached_features_are_the_fresh_ones(tmp_path: Path, dtype: torch.dtype):
    video, keys = clips()
    backbone = Fake(dtype=dtype)
    cached = extractor(tmp_path, backbone)
    fresh = cached.extract(video, keys=keys)
    again = cached.extract(video, keys=keys)
    assert backbone.asked == keys
    assert_equal(fresh, again)
    assert fresh.maps["block.0"].dtype == dtype
    assert fresh.maps["block.1"].shape == (3, 2, 10, 2, 2, 3)
    assert (cached.cache.stats.hits, cached.cache.stats.misses) == (3, 3)


def test_cached_features_are_the_backbones_to_bf16(tmp_path: Path):
    video, keys = clips()
    direct = Fake().extract(video, ["a room"] * 3, None, (0.7, 0.1), keys=keys)
    cached = extractor(tmp_path).extract(video, keys=keys)
    assert torch.equal(cached.latent, direct.latent)
    for name, exact in direct.maps.items():
        torch.testing.assert_close(cached.maps[name], exact, rtol=2**-8, atol=0)
        assert not torch.equal(cached.maps[name], exact)


def test_only_missing_samples_are_extracted_and_all_come_back_in_order(tmp_path: Path):
    video, keys = clips(4)
    extractor(tmp_path).extract(video[[1, 3]], keys=[keys[1], keys[3]])
    backbone = Fake()
    mixed = extractor(tmp_path, backbone).extract(video, keys=keys)
    assert backbone.asked == ["clip-0", "clip-2"]
    assert_equal(mixed, extractor(tmp_path / "empty").extract(video, keys=keys))


def test_each_prompt_has_its_own_entry(tmp_path: Path):
    video, keys = clips(2)
    backbone = Fake()
    cached = extractor(tmp_path, backbone)
    cached.extract(video, "a room", keys=keys)
    cached.extract(video, ["a room", "a street"], keys=keys)
    assert backbone.asked == ["clip-0", "clip-1", "clip-1"]


def test_every_ingredient_changes_the_address():
    video, _ = clips(1)
    flipped = video[0].clone()
    flipped[0, 0, 0, 0] += 1e-6

    plain: dict[str, Any] = {
        "backbone": Fake(),
        "clip": video[0],
        "taps": ["block.0"],
        "timesteps": (0.7, 0.1),
        "prompt": "a room",
        "seed": 0,
        "key": "clip",
    }
    changes: list[dict[str, Any]] = [
        {},
        {"backbone": Fake("other weights")},
        {"backbone": Fake(dtype=torch.bfloat16)},
        {"backbone": Fake(vae_settings={"tile_sample_min_size": 256})},
        {"backbone": Fake(vae_settings={"tile_sample_min_size": 512})},
        {"backbone": Fake(vae_settings={"dtype": "torch.bfloat16"})},
        {"backbone": Fake(text_tokens=16)},
        {"backbone": Fake(extract_guidance=3.5)},
        {"clip": flipped},
        {"clip": video[0].reshape(3, 5, 48, 32)},
        {"taps": ["block.1"]},
        {"taps": ["block.0", "block.1"]},
        {"timesteps": (0.1, 0.7)},
        {"timesteps": (0.7,)},
        {"prompt": "a street"},
        {"seed": 1},
        {"key": "clap"},
    ]
    addresses = {entry_address(**(plain | change)) for change in changes}
    assert len(addresses) == len(changes)
    assert entry_address(**(plain | {"clip": video[0].clone()})) in addresses


def test_entries_of_earlier_versions_are_found():
    clip = torch.arange(3 * 32 * 48).reshape(3, 1, 32, 48) / 4608
    address = entry_address(
        cast(Backbone, Fake()), clip, ["block.0"], (0.7, 0.1), "a room", 0, "clip"
    )
    assert address == "ca34693c5779a87ef7631fdc27b7ee14484b8413067a2691c9520b3ce7fe0ac2"


def test_short_forms_of_a_tap_share_an_entry(tmp_path: Path):
    video, keys = clips(1)
    backbone = Fake()
    cached = extractor(tmp_path, backbone)
    cached.extract(video, taps=["block.1"], keys=keys)
    cached.extract(video, taps=[1], keys=keys)
    assert backbone.asked == keys


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
    backbone = Fake()
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
    backbone = Fake()
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
    one = entry_bytes(cast(Backbone, Fake()), frames=5, height=32, width=48)
    cached = extractor(tmp_path, budget_gb=1.5 * one / 2**30)
    assert_equal(cached.extract(video, keys=keys), whole)
    assert (cached.cache.stats.damaged, cached.cache.stats.evicted) == (1, 0)


def test_the_estimate_is_the_size_of_the_file(tmp_path: Path):
    video, keys = clips(1)
    extractor(tmp_path).extract(video, keys=keys)
    estimate = entry_bytes(cast(Backbone, Fake()), frames=5, height=32, width=48)
    assert 0 <= entries(tmp_path)[0].stat().st_size - estimate < 4096
    fewer = entry_bytes(cast(Backbone, Fake()), ["block.0"], [0.5], frames=5, height=32, width=48)
    assert fewer == 2 * 6 * 2 * 2 * 3 + 4 * 3 * 2 * 4 * 6


def test_the_least_recently_used_entries_go_first(tmp_path: Path):
    video, keys = clips(8)
    extractor(tmp_path / "probe").extract(video[:1], keys=keys[:1])
    size = entries(tmp_path / "probe")[0].stat().st_size
    budget = 4.5 * size

    backbone = Fake()
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
    one = entry_bytes(cast(Backbone, Fake()), frames=5, height=32, width=48)
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
        cast(Backbone, Fake()), video[0], ["block.0", "block.1"], (0.7, 0.1), "a room", 0, "clip-0"
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

    backbone = Fake()
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


def test_training_is_the_same_with_a_cold_or_warm_cache_and_to_bf16_without(tmp_path: Path):
    video, keys = clips(4)

    def losses(extract) -> list[float]:
        torch.manual_seed(0)
        head = torch.nn.Linear(10, 1)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.02)
        out = []
        for step in range(12):
            pick = [step % 4, (step + 1) % 4]
            features = extract(video[pick], ["a room"] * 2, keys=[keys[i] for i in pick])
            fused = features.maps["block.1"].mean(1).movedim(1, -1)  # [B, F, H, W, C]
            loss = (head(fused)[..., 0] - features.latent[..., ::2, ::2].mean(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            out.append(loss.item())
        return out

    uncached = Fake()
    plain = losses(lambda *a, **k: uncached.extract(*a, timesteps=(0.7, 0.1), **k))
    cold = losses(extractor(tmp_path).extract)
    backbone = Fake()
    warm = losses(extractor(tmp_path, backbone).extract)
    assert backbone.asked == []
    assert warm == cold
    assert cold == pytest.approx(plain, rel=2**-7)
    assert cold != plain
