"""``mmdiff-video data make rooms``: draw rooms into a folder, in one of several layouts."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from mmdiff_video.checks import check_least, check_seed
from mmdiff_video.datasets.captions import CAPTIONS_FILE, write_captions
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.files import PARTIAL, read_json, remove_partials, write_json
from mmdiff_video.locks import sole_writer, writer_in_turn
from mmdiff_video.rooms.drawing import DRAWING, draw_room
from mmdiff_video.rooms.furnishing import make_room
from mmdiff_video.rooms.layouts import LAYOUTS, RoomLayout, picture_names
from mmdiff_video.workers import worker_pool

logger = logging.getLogger(__name__)

_MANIFEST = "rooms.json"

_FIRST_LABELS = {"voc": ["seg"], "nyu": ["depth"], "duts": ["saliency"],
                 "folders": ["seg", "depth", "saliency"]}  # fmt: skip
"""What version 0.1.0 wrote, whose manifests do not say."""


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What decides the files' contents. ``drawing`` changes with the pictures the code makes."""

    layout: str
    scenes: int
    seed: int
    frames: int
    width: int
    height: int
    drawing: int = DRAWING


class _Item(NamedTuple):
    split: str
    number: int

    @property
    def key(self) -> str:
        return f"{self.split}{self.number:05d}"


def make_rooms(
    out: Path,
    *,
    layout: str = "re10k",
    scenes: int = 100,
    seed: int = 0,
    frames: int | None = None,
    width: int = 256,
    height: int = 256,
    jobs: int | None = None,
    wait: bool = False,
) -> Path:
    """Write rooms into a folder; a call that was stopped goes on where it was.

    A folder that lacks a kind of label, because the program that made it did not know that kind,
    gets it: its rooms are drawn once more.

    Rooms of different splits are different rooms. A fifth of the scenes, at least one, is held out
    (``test``, in VOC ``val``). Beside the layout's files there is ``captions.jsonl``.

    Args:
        out: the data root; new, empty, or begun by the same call.
        layout: a key of :data:`LAYOUTS`.
        scenes: number of rooms, at least 2.
        seed: of the rooms.
        frames: per room, along its walk; None: 40 for clips, 1 for pictures.
        width, height: in pixels; even for videos.
        jobs: processes; None: one per core; 1: this one.
        wait: for another process that draws there now, instead of refusing.

    Returns:
        ``out``.

    Raises:
        InputError: impossible numbers, ``out`` holds anything else, or another process draws there.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    writer = LAYOUTS[layout]
    frames = writer.frames if frames is None else frames
    settings = _Settings(
        layout=layout, scenes=scenes, seed=seed, frames=frames, width=width, height=height
    )
    _check(settings)
    jobs = os.cpu_count() or 1 if jobs is None else jobs
    check_least("jobs", jobs, 1)
    out = Path(out)
    items = _items(writer, scenes)
    if _is_complete(out, settings, items):
        return out
    with _folder_to_fill(out, wait=wait):
        _begin(out, settings)
        missing = _missing(out, settings, items)
        with tqdm(
            total=len(items), initial=len(items) - len(missing), desc="drawing rooms", unit="room",
            disable=None,
        ) as bar:  # fmt: skip
            for _ in _draw_all(out, settings, missing, jobs):
                bar.update()
        _finish(out, settings, items)
    return out


def _check(settings: _Settings) -> None:
    clips = LAYOUTS[settings.layout].clips
    least = 2 if clips else 1
    check_least("scenes", settings.scenes, 2)
    check_seed("seed", settings.seed)
    if settings.frames < least:
        raise InputError(
            f"layout '{settings.layout}' needs at least {least} frames, not {settings.frames}"
        )
    size = f"{settings.width}x{settings.height}"
    if min(settings.width, settings.height) < 16:
        raise InputError(f"pictures must be at least 16x16, not {size}")
    if clips and (settings.width % 2 or settings.height % 2):
        raise InputError(f"videos need an even width and height, not {size}")


def _is_complete(out: Path, settings: _Settings, items: list[_Item]) -> bool:
    """Whether nothing is to be done; a folder that is not to be touched is refused here."""
    found = _read_manifest(out, settings)
    return bool(found and found.complete and not found.lacking) and not _missing(
        out, settings, items
    )


@contextmanager
def _folder_to_fill(out: Path, *, wait: bool) -> Iterator[None]:
    hold = writer_in_turn if wait else sole_writer
    try:
        out.mkdir(parents=True, exist_ok=True)
        stack = ExitStack()
        stack.enter_context(hold(out, "drawing rooms"))
    except PermissionError:
        raise InputError(f"'{out}' cannot be written to; choose another folder") from None
    with stack:
        yield


def _begin(out: Path, settings: _Settings) -> None:
    """Say what the folder will hold, unless it says so already."""
    found = _read_manifest(out, settings)
    if found and found.lacking:
        kinds = " and ".join(found.lacking)
        logger.info("'%s' has no labels for %s yet: adding them", out, kinds)
    if not found or found.lacking:
        write_json(out / _MANIFEST, _manifest(settings, complete=False))


class _Found(NamedTuple):
    """What the manifest of a folder says: whether all was written, and the labels it lacks."""

    complete: bool
    lacking: list[str]


def _read_manifest(out: Path, settings: _Settings) -> _Found | None:
    """See that a folder holds rooms of these settings, or (None) nothing yet.

    Raises:
        InputError: it holds anything else.
    """
    try:
        if not out.exists() or (out.is_dir() and not any(map(_is_content, out.iterdir()))):
            return None
        found = read_json(out / _MANIFEST)
        complete = bool(found.pop("complete"))
        labels = found.pop("labels", _FIRST_LABELS.get(settings.layout, []))
    except PermissionError:
        raise InputError(f"'{out}' cannot be written to; choose another folder") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise InputError(f"'{out}' exists and holds no rooms; choose another folder") from None
    wanted = asdict(settings)
    if found != wanted:
        differing = ", ".join(
            f"{name} {found.get(name)} instead of {value}"
            for name, value in wanted.items()
            if found.get(name) != value
        )
        raise InputError(
            f"'{out}' holds rooms made with other settings ({differing}); remove it or choose "
            "another folder"
        )
    lacking = [name for name in LAYOUTS[settings.layout].labels if name not in labels]
    return _Found(complete, lacking)


def _is_content(path: Path) -> bool:
    """Tell what a user put into a folder from what a process that was killed left."""
    return not path.name.startswith((PARTIAL, ".lock"))


def _missing(out: Path, settings: _Settings, items: list[_Item]) -> list[_Item]:
    writer = LAYOUTS[settings.layout]
    return [item for item in items if not writer.is_written(out, item.split, item.key)]


def _manifest(settings: _Settings, *, complete: bool) -> dict[str, Any]:
    labels = LAYOUTS[settings.layout].labels
    return {**asdict(settings), "labels": labels, "complete": complete}


def _items(writer: RoomLayout, scenes: int) -> list[_Item]:
    train, held_out = writer.splits
    count = max(1, scenes // 5)
    return [_Item(train, i) for i in range(scenes - count)] + [
        _Item(held_out, i) for i in range(count)
    ]


def _draw_all(out: Path, settings: _Settings, items: list[_Item], jobs: int) -> Iterator[None]:
    if jobs <= 1 or len(items) < 2:
        for item in items:
            yield _draw(out, settings, item)
        return
    with worker_pool(min(jobs, len(items))) as pool:
        for future in as_completed([pool.submit(_draw, out, settings, item) for item in items]):
            yield future.result()


def _draw(out: Path, settings: _Settings, item: _Item) -> None:
    room = make_room(item.split, item.number, settings.seed)
    clip = draw_room(room, settings.frames, settings.height, settings.width)
    LAYOUTS[settings.layout].write(out, item.split, item.key, clip)


def _finish(out: Path, settings: _Settings, items: list[_Item]) -> None:
    """Write the lists, the captions and, last, that all is there."""
    found = _read_manifest(out, settings)
    if found and found.complete:
        return
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        remove_partials(folder)
    writer = LAYOUTS[settings.layout]
    names: dict[str, list[str]] = {split: [] for split in writer.splits}
    captions: dict[str, str] = {}
    for item in items:
        own = [item.key] if writer.clips else picture_names(item.key, settings.frames)
        names[item.split] += own
        captions |= dict.fromkeys(own, make_room(item.split, item.number, settings.seed).caption)
    writer.finish(out, names)
    if not (out / CAPTIONS_FILE).exists():  # of a folder that gets more labels, perhaps others
        write_captions(out, captions)
    write_json(out / _MANIFEST, _manifest(settings, complete=True))
