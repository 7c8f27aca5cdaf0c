"""What ``predict`` is given, and where the result of each input goes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from mmdiff_video.datasets.picture_files import is_picture
from mmdiff_video.dense.results import REPORT, results_of
from mmdiff_video.skipped import Skipped

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".ts", ".mts")
"""How names of videos end, in small or capital letters."""


class Input(NamedTuple):
    """A picture or video.

    Attributes:
        path: of the file.
        place: of its result below the output folder, without a suffix; of a video, the folder of
            its frames. No two inputs write one file.
        video: whether it is one.
    """

    path: Path
    place: Path
    video: bool


def find_inputs(paths: Sequence[Path]) -> tuple[list[Input], list[Skipped]]:
    """Find the pictures and videos of files and folders, and say what is none.

    A folder's own files (not those in folders below it) get places in a folder of its name. A place
    is named as its file, without the suffix where that tells it from the others, with a number
    where even the whole name does not.
    """
    found: dict[tuple[Path, str], None] = {}
    skipped: list[Skipped] = []
    for path in paths:
        try:
            if path.is_dir():
                # realpath: '.' and '..' have names, and a link to itself is no error
                folder = os.path.basename(os.path.realpath(path))
                inside = sorted(p for p in path.iterdir() if is_picture(p) or _is_video(p))
                if not inside:
                    skipped.append(
                        Skipped(str(path), f"there is no picture and no video in '{path}'")
                    )
            else:
                folder, inside = "", [path]
            for file in inside:
                problem = _problem(file)
                if problem:
                    skipped.append(Skipped(str(file), problem))
                else:
                    found[file, folder] = None
        except OSError as error:
            skipped.append(Skipped(str(path), f"'{path}' cannot be read: {error.strerror}"))
    return list(_placed(list(found))), skipped


def _problem(path: Path) -> str:
    """Say why a file is no input; empty where it is one, as far as can be told from outside."""
    if not path.exists():
        return (
            f"'{path}' is a link that leads nowhere"
            if path.is_symlink()
            else f"there is no '{path}'"
        )
    if not is_picture(path) and not _is_video(path):
        return f"'{path}' is neither a picture nor a video nor a folder (by the end of its name)"
    return "" if path.is_file() else f"'{path}' is no file"  # a pipe would be waited for


def _placed(files: Sequence[tuple[Path, str]]) -> Iterator[Input]:
    stems = Counter(_same(Path(folder, path.stem)) for path, folder in files)
    taken = {_same(Path(REPORT)), *(_same(Path(folder)) for _, folder in files)}
    for path, folder in files:
        video = _is_video(path)
        alone = stems[_same(Path(folder, path.stem))] == 1
        numbered = (f"{path.name}-{number}" for number in count(2))
        for name in chain([path.stem] if alone else [], [path.name], numbered):
            place = Path(folder, name)
            results = {_same(result) for result in results_of(place, video)}
            if not results & taken:
                taken |= results
                yield Input(path, place, video)
                break


def _same(path: Path) -> str:
    """What is equal for names that are one file on some systems."""
    return str(path).casefold()


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
