"""Cameras and clips: RealEstate10K's files, its folders, and pixelSplat's chunks."""

import io
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz.harness import Case, require, require_sentence, target
from fuzz.mutate import WORDS, break_bytes, break_json, break_text, same_text
from PIL import Image

from mmdiff_video.datasets.clips.clip import ClipError, LoadedClips
from mmdiff_video.datasets.clips.eval_index import load_eval_index
from mmdiff_video.datasets.formats.camera_track import (
    CameraTrack,
    read_camera_file,
    track_from_rows,
)
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.errors import InputError

_NUMBERS = ("nan", "inf", "1e400", "1e38", "1e-320", "0", "-1", "1", "0.5", "x", "1_0", "9" * 25)


def camera_rows(rng: random.Random, count: int) -> np.ndarray:
    """Rows [count, 18] of good cameras."""
    rows = np.zeros((count, 18))
    for row in rows:
        angle = rng.uniform(-1, 1)
        turn = np.array(
            [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        )
        place = np.array([[rng.uniform(-3, 3)] for _ in range(3)])
        row[:4] = rng.uniform(0.4, 2), rng.uniform(0.4, 2), rng.uniform(0.3, 0.7), 0.5
        row[6:] = np.concatenate([turn, place], 1).reshape(-1)
    return rows


def camera_text(rows: np.ndarray) -> str:
    """The camera file of the rows, a frame every 100 ms."""
    lines = [f"{i * 100_000} " + " ".join(f"{x:.9f}" for x in row) for i, row in enumerate(rows)]
    return "\n".join(["https://example.org/clip", *lines]) + "\n"


def require_sane(track: CameraTrack) -> None:
    """Assert what :class:`CameraTrack` promises."""
    count = len(track.timestamps)
    require(count > 0, "a track without a camera")
    require(track.timestamps.dtype == torch.int64, "timestamps are not int64")
    require((track.timestamps[1:] > track.timestamps[:-1]).all(), "timestamps do not increase")
    require(track.intrinsics.shape == (count, 4), f"intrinsics {track.intrinsics.shape}")
    require(track.viewmats.shape == (count, 4, 4), f"viewmats {track.viewmats.shape}")
    require(track.intrinsics.isfinite().all(), "intrinsics are not finite")
    require(track.viewmats.isfinite().all(), "viewmats are not finite")
    require(track.viewmats.float().isfinite().all(), "viewmats that float32 cannot hold")
    require((track.intrinsics[:, :2] > 0).all(), "a focal length that is not positive")
    require(track.intrinsics.float().isfinite().all(), "intrinsics that float32 cannot hold")
    turns = track.viewmats[:, :3, :3]
    error = (turns @ turns.mT - torch.eye(3, dtype=turns.dtype)).abs().max()
    require(error < 1e-9, f"rotations are off by {error}")


@target(cases=120)
def camera_file(case: Case) -> None:
    """A camera file whose lines, words or bytes are broken, or which is only written otherwise."""
    rng = case.rng
    rows = camera_rows(rng, rng.randint(1, 6))
    text = camera_text(rows)
    same = rng.random() < 0.15
    data = same_text(rng, text) if same else break_text(rng, text, (*WORDS, *_NUMBERS))
    path = case.folder / "clip.txt"
    path.write_bytes(data)
    case.note(data[:200], "..." if len(data) > 200 else "")
    with case.refusable(ClipError, naming="clip.txt"):
        require_sane(track := read_camera_file(path))
        lines = [line for line in data.decode("utf-8-sig").split("\n") if line.strip()]
        require(len(track.timestamps) >= len(lines) - 1, "a line of the file is not in the track")
        if same:
            require(np.allclose(track.intrinsics, rows[:, :4], atol=1e-8), "other intrinsics")
            require(np.allclose(track.viewmats[:, :3, 3], rows[:, 9::4], atol=1e-8), "other places")
    require(not (same and case.refusal), f"a good file is refused: {case.refusal}")


@target(cases=60)
def camera_numbers(case: Case) -> None:
    """Rows as a chunk holds them, with numbers that no camera has."""
    rng = case.rng
    rows = torch.tensor(camera_rows(rng, rng.randint(1, 5)))
    times = torch.arange(len(rows)) * 1000
    for _ in range(rng.randint(1, 3)):
        values = (float("nan"), float("inf"), -1.0, 0.0, 1e38, 1e300, 1e-300, -1e300, 2.0, 1e5)
        row, column, value = rng.randrange(len(rows)), rng.randrange(18), rng.choice(values)
        rows[row, column] = value
        case.note(f"row {row}, column {column}: {value}")
    if rng.random() < 0.2:
        times[rng.randrange(len(times))] = rng.choice((-1, 0, 2**62, -(2**62)))
    rows = rows.to(rng.choice((torch.float64, torch.float32)))
    with case.refusable(ClipError, naming="camera "):
        require_sane(track_from_rows(times, rows, lambda i: f"camera {i}"))


def _picture(rng: random.Random, height: int = 16, width: int = 24) -> bytes:
    pixels = np.frombuffer(rng.randbytes(height * width * 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(height, width, 3)).save(file, "png")
    return file.getvalue()


def _write_clips(rng: random.Random, split: Path, keys: list[str]) -> None:
    """Clips whose frames are pictures in folders."""
    for key in keys:
        rows = camera_rows(rng, 3)
        (split / f"{key}.txt").write_text(camera_text(rows))
        (split / key).mkdir()
        for i in range(3):
            (split / key / f"{i * 100_000}.png").write_bytes(_picture(rng))


def _require_all(loaded: LoadedClips, keys: set[str], echoed: tuple[str, ...] = ()) -> None:
    """Assert that every clip is either usable or skipped with a sentence."""
    usable = [clip.key for clip in loaded.clips]
    skipped = [entry.key for entry in loaded.skipped]
    found = [*usable, *skipped]
    require(len(set(usable)) == len(usable), f"a clip comes twice: {usable}")
    require(set(found) >= keys, f"{sorted(keys - set(found))} vanished: {found}")
    for entry in loaded.skipped:
        require(entry.reason.strip(), f"{entry.key} is skipped without a reason")
        require_sentence(entry.reason, echoed)
    for clip in loaded.clips:
        try:
            frames = clip.read(range(clip.num_frames))
        except ClipError as error:
            require_sentence(str(error), echoed)
        else:
            require(frames.shape == (clip.num_frames, clip.height, clip.width, 3), "odd frames")


@target(cases=30)
def clip_folder(case: Case) -> None:
    """A data root with broken, missing, hidden and stray files."""
    rng = case.rng
    split = case.folder / "train"
    split.mkdir()
    keys = ["a", "b", "c"]
    _write_clips(rng, split, keys)
    wanted = set(keys)
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(keys)
        camera, folder = split / f"{key}.txt", split / key
        match rng.randrange(9):
            case 0 if camera.is_file():
                camera.write_bytes(break_text(rng, camera.read_text()))
                case.note("broken cameras of", key)
            case 1 if folder.is_dir():
                file = folder / "100000.png"
                file.write_bytes(break_bytes(rng, file.read_bytes() if file.exists() else b""))
                case.note("a broken picture of", key)
            case 2 if folder.is_dir():
                (folder / "0.png").unlink(missing_ok=True)
                case.note("no first picture of", key)
            case 3:
                name = rng.choice(
                    (".hidden.txt", "._a.txt", "x\ny.txt", "\u2028.txt", "a b.txt", ".txt")
                )
                (split / name).write_bytes(rng.randbytes(20))
                case.note("a file", repr(name))
            case 4:
                (split / "folder.txt").mkdir(exist_ok=True)
                case.note("a folder of the name of a camera file")
            case 5 if camera.is_file() and not camera.is_symlink():
                camera.unlink()
                camera.symlink_to(case.folder / "nowhere.txt")
                case.note("a link that leads nowhere for", key)
            case 6 if folder.is_dir():
                (folder / "0.png").write_bytes(_picture(rng, 8, 8))
                case.note("a picture of another size in", key)
            case 7:
                (split / f"{key}.mp4").write_bytes(rng.randbytes(rng.choice((0, 50))))
                case.note("no video under the name of one:", key)
            case _:
                (split / "d.txt").write_bytes(break_text(rng, camera_text(camera_rows(rng, 2))))
                wanted.add("d")
                case.note("cameras without pictures")
    echoed = ("x\ny", "\u2028")
    with case.refusable(InputError, naming=(str(case.folder), *wanted), echoed=echoed):
        _require_all(load_re10k(case.folder, "train"), wanted, echoed)


@cache
def _chunk_items() -> list[dict[str, Any]]:
    rng = random.Random(0)
    items = []
    for key in ("a", "b", "c"):
        pictures = [torch.frombuffer(bytearray(_picture(rng)), dtype=torch.uint8) for _ in range(3)]
        rows = torch.tensor(camera_rows(rng, 3), dtype=torch.float32)
        times = torch.arange(3) * 1000
        items.append(
            {"key": key, "url": "", "timestamps": times, "cameras": rows, "images": pictures}
        )
    return items


def _break_item(rng: random.Random, item: dict[str, Any]) -> dict[str, Any]:
    field = rng.choice(("key", "timestamps", "cameras", "images"))
    values = {
        "key": (1, None, "", "a", "x/y", b"a", torch.zeros(2)),
        "timestamps": (
            *(None, [0, 1, 2], torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.arange(2)),
            *(torch.arange(3.0), torch.zeros(3, 1), torch.tensor(3), "x", torch.arange(3) * -1),
        ),
        "cameras": (
            *(None, [], torch.zeros(3, 18), torch.zeros(3, 17), torch.zeros(0, 18), "x"),
            *(torch.zeros(54), torch.full((3, 18), float("nan")), torch.zeros(3, 18, dtype=int)),
            *(torch.zeros(3, 18, dtype=torch.complex64), torch.zeros(3, 18).to_sparse()),
        ),
        "images": (
            *(None, [], {}, item["images"][:2], [None] * 3, ["x"] * 3, torch.zeros(3, 8), 3),
            *([torch.zeros(9)] * 3, [torch.zeros(0, dtype=torch.uint8)] * 3, [b"x"] * 3),
            *([torch.zeros(4, 4, dtype=torch.uint8)] * 3, [item["images"][0][:40]] * 3),
        ),
    }
    if rng.random() < 0.2:
        return {k: v for k, v in item.items() if k != field}
    return {**item, field: rng.choice(values[field])}


@target(cases=30)
def chunks(case: Case) -> None:
    """pixelSplat chunks: a file of broken bytes, items of odd types, an index that does not fit."""
    rng = case.rng
    split = case.folder / "test"
    split.mkdir()
    items: Any = list(_chunk_items())
    index: Any = {"a": "0.torch", "b": "0.torch", "c": "1.torch"}
    wanted = {"a", "b", "c"}
    first = items[:2]
    match rng.randrange(6):
        case 0:
            case.note("broken bytes of a chunk")
        case 1:
            first = rng.choice((None, {}, [], first[0], [None], ["x"], [[1]], torch.zeros(3), [{}]))
            case.note(f"a chunk of {type(first).__name__}: {str(first)[:80]}")
        case 2 | 3:
            first = [_break_item(rng, first[0]), first[1]]
            case.note({k: str(v)[:60] for k, v in first[0].items() if k != "images"})
        case 4:
            first = [*first, first[0]]
            case.note("an item that comes twice")
    torch.save(first, split / "0.torch")
    torch.save(items[2:], split / "1.torch")
    data = (split / "0.torch").read_bytes()
    if not case.notes:
        if rng.random() < 0.3:
            index_bytes = break_json(rng, index)
            case.note("index", index_bytes[:200])
            (split / "index.json").write_bytes(index_bytes)
            wanted = set()
        else:
            case.note("nothing is broken")
    elif case.notes[0].startswith("broken bytes"):
        (split / "0.torch").write_bytes(break_bytes(rng, data))
    if not (split / "index.json").exists():
        (split / "index.json").write_text(json.dumps(index))
    with case.refusable(InputError, naming=(str(case.folder), *wanted)):
        _require_all(load_re10k(case.folder, "test"), wanted)


@target(cases=80)
def eval_index(case: Case) -> None:
    """pixelSplat's evaluation index, broken as JSON and as an index."""
    rng = case.rng
    good = {
        "a": {"context": [3, 40], "target": [7, 20]},
        "b": None,
        "c": {"context": [0, 9], "target": [4]},
    }
    path = case.folder / "index.json"
    path.write_bytes(break_json(rng, good))
    case.note(path.read_bytes()[:300])
    with case.refusable(InputError, naming=str(path)):
        for scene in load_eval_index(path).values():
            if scene is not None:
                require(len(scene.context) >= 2, "fewer than two contexts")
                require(scene.target, "no target")
                for frames in scene:
                    require(list(frames) == sorted(set(frames)), f"frames {frames}")
                    require(all(type(i) is int and i >= 0 for i in frames), f"frames {frames}")
