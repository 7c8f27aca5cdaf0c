"""``mmdiff-video render``: whatever has Gaussians, drawn along a path of cameras."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdiff_video.errors import InputError
from mmdiff_video.nvs.render import render_scene
from mmdiff_video.runs import CONFIG
from mmdiff_video.scenes.folder import GAUSSIANS, is_scene
from mmdiff_video.scenes.render_file import render_file
from recon.io.scene_files import SCENE_FORMATS


def render(
    source: Path,
    *,
    out: Path,
    for_scenes: Mapping[str, Any],
    for_runs: Mapping[str, Any],
    **options: Any,
) -> None:
    """Render a file of Gaussians, the folder of a fitted scene, or a clip of a run.

    Args:
        source: one of these.
        out: the video.
        for_scenes: options that only files and scenes take, see
            :func:`mmdiff_video.scenes.render_file.render_file`; None: not given.
        for_runs: those that only runs take (:func:`render_scene`).
        options: those that both take.

    Raises:
        InputError: an option that the source does not take, or as the function that renders it.
        OSError: a file cannot be read or written.
    """
    is_file = source.is_file() or source.suffix.lower() in SCENE_FORMATS
    is_run = (source / CONFIG).is_file()  # even where the Gaussians of a clip were saved in it
    if source.is_dir() and not is_scene(source) and not is_run:
        raise InputError(
            f"'{source}' is neither a scene ({GAUSSIANS}) nor a run of train-3dgs ({CONFIG}): name"
            f" one of these, or a file of Gaussians ({', '.join(SCENE_FORMATS)})"
        )
    if is_file or (is_scene(source) and not is_run):
        what, work, takes, others = "a scene", render_file, for_scenes, for_runs
    else:
        what, work, takes, others = "no scene but a run", render_scene, for_runs, for_scenes
    for name, value in others.items():
        if value is not None:
            flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in takes)
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning here: '{source}' is {what}; `render`"
                f" takes {flags} for it"
            )
    given = {name: value for name, value in takes.items() if value is not None}
    work(source, out=out, **given, **options)
