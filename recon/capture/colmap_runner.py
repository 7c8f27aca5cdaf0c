"""Runs COLMAP (pycolmap, the extra ``capture``) in a process of its own, on files."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FEATURES_SIDE = 1024
"""Pixels of the longer side at which features are looked for; larger pictures are shrunk for it,
which makes poses no worse that can be seen and takes a fraction of the time."""


class PosesError(ValueError):
    """No poses were found; the message says why, and what to film differently."""


@dataclass(frozen=True)
class CameraGroup:
    """Pictures of one camera with one zoom.

    Attributes:
        names: of the pictures.
        camera_model: of COLMAP.
        camera_params: in the order of the model; empty: to be found out.
    """

    names: list[str]
    camera_model: str
    camera_params: list[float]


def is_installed() -> bool:
    """Whether there is a COLMAP to run."""
    return importlib.util.find_spec("pycolmap") is not None


def run_colmap(
    images: Path,
    names: Sequence[str],
    groups: Sequence[CameraGroup],
    work: Path,
    *,
    pairs: Sequence[tuple[int, int]] | None,
    seed: int,
    threads: int,
    given: Sequence[Sequence[float]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Extract features, match, and find or refine poses.

    Args:
        images: folder of the pictures.
        names: of the pictures in it.
        groups: which of them share a camera.
        work: an empty folder for what is made on the way; the result is ``work/model``.
        pairs: numbers of pictures to match; None: all with all.
        seed: of all random choices.
        threads: that extract features; -1: one for each core.
        given: of each picture, quaternion (w x y z) and translation; None: they are looked for.
        more: what else the job says, and ``progress``, which is told the stages.

    Returns:
        what the process found; pictures are named as in ``names``.

    Raises:
        PosesError: the process failed, with its last words.
    """
    progress: Callable[[str], None] = more.pop("progress")
    # names of files may hold what COLMAP's lists do not take: it gets numbers
    numbered = [f"{number:06d}{Path(name).suffix}" for number, name in enumerate(names)]
    number_of = dict(zip(names, numbered, strict=True))
    pictures = work / "pictures"
    pictures.mkdir()
    for name, number in number_of.items():
        _link(images / name, pictures / number)
    job = {
        "images": str(pictures),
        "work": str(work),
        "names": numbered,
        "groups": [
            asdict(group) | {"names": [number_of[name] for name in group.names]} for group in groups
        ],
        "pairs": None if pairs is None else [list(pair) for pair in pairs],
        "seed": seed,
        "threads": threads,
        "longest_side": FEATURES_SIDE,
        "given": None if given is None else dict(zip(numbered, map(list, given), strict=True)),
        **more,
    }
    file = work / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    _run(file, progress)
    facts = json.loads((work / "facts.json").read_text(encoding="utf-8"))
    name_of = dict(zip(numbered, names, strict=True))
    for picture in facts["pictures"]:
        picture["name"] = name_of[picture["name"]]
    return facts | {"name_of": name_of}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def _run(job: Path, progress: Callable[[str], None]) -> None:
    """Run the process, telling ``progress`` what it says.

    Raises:
        PosesError: it failed, with its last words.
    """
    command = [sys.executable, "-m", "recon.capture.colmap_process", str(job)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8"
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                progress(json.loads(line)["stage"])
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        if code < 0:
            raise PosesError(
                f"COLMAP was ended by signal {-code} ({_signal_name(-code)}): free some memory, or"
                " give it fewer or smaller pictures"
            )
        if code:
            complaints.seek(0)
            words = complaints.read().strip().splitlines()
            said = f": {words[-1][:200]}" if words else ""
            raise PosesError(f"COLMAP ended with status {code}{said}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
