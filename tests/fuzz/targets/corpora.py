"""Corpora of pretraining: their manifest, shards and captions."""

import json
import random
from pathlib import Path

import numpy as np
from fuzz.harness import Case, require, target
from fuzz.mutate import break_bytes, break_json

from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.corpus import Corpus

_MANIFEST = {
    "generator": {"name": "rooms", "version": 1},
    "frames": 2,
    "height": 4,
    "width": 4,
    "seed": 0,
    "shard_clips": 3,
    "walk": [0.1, 0.7],
}


def _write(folder: Path) -> np.ndarray:
    (folder / "corpus.json").write_text(json.dumps(_MANIFEST))
    clips = np.random.default_rng(0).integers(0, 255, (6, 2, 4, 4, 3), np.uint8)
    for shard in range(2):
        np.save(folder / f"val-{shard:05d}.npy", clips[3 * shard : 3 * shard + 3])
        captions = [f"clip {3 * shard + i}" for i in range(3)]
        (folder / f"val-{shard:05d}.json").write_text(json.dumps(captions))
    return clips


def _break(rng: random.Random, path: Path) -> None:
    if rng.random() < 0.1:
        path.unlink()
    elif path.suffix == ".json":
        path.write_bytes(break_json(rng, json.loads(path.read_text())))
    elif rng.random() < 0.5:
        path.write_bytes(break_bytes(rng, path.read_bytes()))
    else:
        shapes = ((3, 2, 4, 4, 3), (2, 2, 4, 4, 3), (3, 4, 4, 3), (0,), (), (3, 2, 8, 8, 3))
        np.save(path, np.zeros(rng.choice(shapes), rng.choice(("u1", "f4", "i8"))))


@target(cases=80)
def corpora(case: Case) -> None:
    """A corpus of one broken file: clips of the size it says, a caption for each, or refused."""
    rng = case.rng
    truth = _write(case.folder)
    path = rng.choice(sorted(case.folder.iterdir()))
    _break(rng, path)
    case.note(path.name, path.read_bytes()[:300] if path.exists() else "is gone")
    with case.refusable(InputError, naming=str(case.folder)):
        corpus = Corpus(case.folder, "val", 5)
        require(len(corpus) == 5, f"{len(corpus)} of 5 clips")
        require(all(isinstance(c, str) for c in corpus.captions), f"captions {corpus.captions}")
        for shard in case.folder.glob("val-*.json"):
            count = len(json.loads(shard.read_bytes()))
            require(count == 3, f"{count} captions of a shard of 3 clips, so that others move up")
        says = tuple(corpus.manifest[name] for name in ("frames", "height", "width"))
        require(says == (2, 4, 4), f"the manifest says {says}, the shards hold other clips")
        for index in range(len(corpus)):
            clip = corpus.clip(index)
            require(clip.dtype == np.uint8, f"clips of {clip.dtype}")
            require(clip.shape == (2, 4, 4, 3), f"a clip {clip.shape}")
            if path.suffix == ".json":
                require(np.array_equal(clip, truth[index]), f"clip {index} is another one")
