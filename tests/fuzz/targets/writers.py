"""What writers write, their readers read back."""

import random
import shutil

import numpy as np
from fuzz.harness import Case, require, target
from fuzz.targets.camera_files import camera_rows

from mmdiff_video.datasets.formats.re10k import load_re10k, write_clip
from mmdiff_video.datasets.picture_files import read_label, read_rgb, write_jpeg, write_label
from mmdiff_video.files import read_json, read_text, write_json, write_text
from mmdiff_video.runs import CONFIG, KINDS, RunFacts, open_run
from mmdiff_video.skipped import Skipped

_LETTERS = "ab/\\\n\r\t\"'\0\u2028\x85é😀\ufeff \x1c{}:#%"


def _words(rng: random.Random, most: int = 8) -> str:
    return "".join(rng.choices(_LETTERS, k=rng.randint(0, most)))


@target(cases=12)
def clip_writing(case: Case) -> None:
    """Clips of any even size, with any cameras."""
    rng = case.rng
    count, height, width = rng.randint(1, 5), 2 * rng.randint(8, 24), 2 * rng.randint(8, 24)
    case.note(f"{count} frames of {width} x {height}")
    chance = np.random.default_rng(rng.getrandbits(32))
    smooth = chance.integers(0, 255, (count, 1, 1, 3)) + np.zeros((count, height, width, 3))
    rows = camera_rows(rng, count)
    viewmats = np.tile(np.eye(4), (count, 1, 1))
    viewmats[:, :3] = rows[:, 6:].reshape(-1, 3, 4)
    Ks = np.tile(np.eye(3), (count, 1, 1))
    Ks[:, 0, 0], Ks[:, 1, 1] = rows[:, 0] * width, rows[:, 1] * height
    Ks[:, 0, 2], Ks[:, 1, 2] = rows[:, 2] * width, rows[:, 3] * height
    pictures = smooth.astype(np.uint8)
    write_clip(case.folder, "test", "clip", pictures, viewmats, Ks, "https://example.org")
    (clip,) = load_re10k(case.folder, "test").clips
    require(np.allclose(clip.viewmats, viewmats, atol=1e-8), "other cameras")
    require(np.allclose(clip.intrinsics, rows[:, :4], atol=1e-8), "other intrinsics")
    error = np.abs(clip.read(range(count)).astype(int) - pictures).max()
    require(error <= 12, f"pixels are off by {error}")


@target(cases=40)
def label_writing(case: Case) -> None:
    """Labels of every kind that the writer takes, and pictures."""
    rng = case.rng
    chance = np.random.default_rng(rng.getrandbits(32))
    height, width = rng.randint(1, 40), rng.randint(1, 40)
    path = case.folder / "sub" / "label.png"
    kind = rng.choice(("u1", "palette", "u2", "rgb8", "rgb16", "jpeg"))
    case.note(kind, f"{width} x {height}")
    shape = (height, width, 3) if kind in ("rgb8", "rgb16", "jpeg") else (height, width)
    deep = kind in ("u2", "rgb16")
    values = chance.integers(0, 65536 if deep else 256, shape).astype(
        np.uint16 if deep else np.uint8
    )
    if kind == "jpeg":
        write_jpeg(path.with_suffix(".jpg"), np.full(shape, 77, np.uint8))
        found = read_rgb(path.with_suffix(".jpg"))
        require(np.abs(found.astype(int) - 77).max() <= 2, "another picture")
        return
    palette = chance.integers(0, 256, (256, 3)).astype(np.uint8) if kind == "palette" else None
    write_label(path, values, palette)
    stored = read_label(path)
    require(stored.values.shape == shape, f"{stored.values.shape} instead of {shape}")
    require(np.array_equal(stored.values, values), "other values")
    require([p.name for p in path.parent.iterdir()] == ["label.png"], "more than the label")


@target(cases=60)
def facts_writing(case: Case) -> None:
    """run.json with any words in it."""
    rng = case.rng
    details = {"tasks": ["seg", "depth"], "x": _words(rng), "y": rng.choice((None, 1, [2.5], {}))}
    facts = RunFacts(
        kind=rng.choice(sorted(KINDS)),
        version=_words(rng),
        backbone="x" + _words(rng),
        backbone_fingerprint=rng.choice((None, _words(rng))),
        untrained_backbone=rng.random() < 0.5,
        parameters={_words(rng): rng.randrange(10**12)},
        samples=rng.randrange(10**9),
        skipped=tuple(Skipped(_words(rng), _words(rng)) for _ in range(rng.randint(0, 2))),
        note=_words(rng),
        details=details,
    )
    (case.folder / CONFIG).write_text("task: seg\n")
    facts.save(case.folder)
    case.note(facts)
    require(open_run(case.folder).facts == facts, f"read back: {open_run(case.folder).facts}")


@target(cases=60)
def text_and_json(case: Case) -> None:
    """Any text and any JSON value, into folders that are not there yet."""
    rng = case.rng
    folder = case.folder / "a" / "b"
    text = _words(rng, 40)
    write_text(folder / "x.txt", text)
    if not text.startswith("\ufeff"):
        require(read_text(folder / "x.txt") == text, f"{text!r} is read otherwise")
    value = {_words(rng): [_words(rng), rng.choice((None, True, 1, 1e300, 10**30, {}))]}
    write_json(folder / "x.json", value)
    require(read_json(folder / "x.json") == value, f"{value!r} is read otherwise")
    for number in (float("nan"), float("inf")):
        with case.refusable(ValueError):
            write_json(folder / "x.json", [number])
            require(False, "a number that is no JSON was written")
    case.refusal = None
    require(read_json(folder / "x.json") == value, "what was there is gone")
    require(sorted(p.name for p in folder.iterdir()) == ["x.json", "x.txt"], "more is left")
    shutil.rmtree(folder)
