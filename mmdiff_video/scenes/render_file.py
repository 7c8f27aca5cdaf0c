"""``mmdiff-video render`` of a scene that is there: a file of Gaussians, or a fitted scene."""

import logging
from pathlib import Path

from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.flights import FRAMES, check_numbers, check_size, fly
from mmdiff_video.outputs import results_file
from mmdiff_video.pictures import save_video
from mmdiff_video.process import this_device
from mmdiff_video.scenes.flight_paths import along, by_name, default_size
from mmdiff_video.scenes.scene_input import read_scene
from recon.io.camera_files import Cameras, load_cameras
from recon.io.format_error import FormatError
from recon.trajectories import TRAJECTORIES

logger = logging.getLogger(__name__)

_NEAR_SHARE = 0.01
"""The near plane is at this share of the focus, as in the fit: the unit of length may be any."""


def render_file(
    source: Path,
    *,
    out: Path,
    trajectory: str | None = None,
    cameras: Path | None = None,
    size: tuple[int, int] | None = None,
    depth: bool = False,
    num_frames: int | None = None,
    fps: int = 20,
) -> None:
    """Write a video of a scene on black, as it was fitted.

    Args:
        source: see :func:`mmdiff_video.scenes.scene_input.read_scene`.
        out: the video, .mp4 or another container that holds H.264.
        trajectory: a key of :data:`recon.trajectories.TRAJECTORIES`, or a file or project of
            cameras, each of which gives a frame; None: ``interpolate`` where the scene has cameras,
            else ``orbit``.
        cameras: of the scene, see ``read_scene``.
        size: width and height of the pictures; None: as the cameras', else 960 x 540.
        depth: put the depth beside the picture.
        num_frames: of the video; None: 60, or as many as ``trajectory`` has cameras.
        fps: of the video.

    Raises:
        InputError: no scene or cameras there, an unknown trajectory, a number or a size that will
            not do, or another process that writes the file.
        OSError: a file cannot be read or written.
    """
    check_numbers(frames=num_frames, fps=fps)
    if size is not None:
        check_size(size[0] * (1 + depth), size[1])
    given = _given_path(trajectory)
    if given is not None and num_frames is not None:
        raise InputError(
            f"'{trajectory}' has {len(given.lenses)} cameras, and each gives a frame: leave"
            " --frames away, or name it as --cameras and interpolate"
        )
    scene = read_scene(source, cameras)
    size = size or default_size(given or scene.cameras)
    check_size(size[0] * (1 + depth), size[1])
    device = this_device()
    gaussians = scene.gaussians.to(device)
    if given is not None:
        flight = along(given, gaussians, size)
    else:
        name = trajectory or ("orbit" if scene.cameras is None else "interpolate")
        flight = by_name(name, scene, gaussians, size, num_frames or FRAMES)
    frames = fly(
        gaussians,
        flight.viewmats.float().to(device),
        flight.Ks.float().to(device),
        (size[1], size[0]),
        near_plane=flight.focus * _NEAR_SHARE,
        depth=depth,
        background=0.0,
    )
    with results_file(out, "render"):
        save_video(frames, out, fps)
    logger.info("%s: %d frames of %s", out, len(flight.viewmats), scene.path)


def _given_path(trajectory: str | None) -> Cameras | None:
    """Cameras that the trajectory names; None: it is the name of one, or nothing."""
    if trajectory is None or trajectory in TRAJECTORIES:
        return None
    path = Path(trajectory)
    if not (path.exists() or path.suffix):
        unknown = unknown_name("trajectory", trajectory, TRAJECTORIES)
        raise InputError(f"{unknown}, or a file of cameras")
    if not path.exists():
        raise InputError(f"'{path}' is no file of cameras, and no trajectory has that name")
    try:
        return load_cameras(path)
    except FormatError as error:
        raise InputError(str(error)) from None
