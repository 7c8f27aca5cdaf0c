"""``mmdiff-video render`` of a scene that is there: a file of Gaussians, or a fitted scene."""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.flights import FRAMES, check_numbers, check_size, fly, focus_depth
from mmdiff_video.outputs import results_file
from mmdiff_video.pictures import save_video
from mmdiff_video.process import this_device
from mmdiff_video.scenes.scene_input import SceneInput, read_scene
from recon.cameras import resize_crop_intrinsics
from recon.gaussians import Gaussians
from recon.io.camera_files import Cameras, load_cameras
from recon.io.format_error import FormatError
from recon.trajectories import TRAJECTORIES, interpolate
from recon.upright import centre, weighted_quantile

logger = logging.getLogger(__name__)

_NEAR_SHARE = 0.01
"""The near plane is at this share of the focus, as in the fit: the unit of length may be any."""

_WIDTH, _HEIGHT, _FOV = 960, 540, 60.0
"""Pixels, and horizontal degrees, of the camera before a scene that has none."""

_SMOOTH = 24
"""Cameras that a flight goes through, at most: all of a hand-held walk would shake."""

_CORE = 0.9
"""Share of the opacity that such a camera has in view: the rest are floaters and the far ground."""


class Path3D(NamedTuple):
    """A flight.

    Attributes:
        viewmats: [N, 4, 4], world-to-camera.
        Ks: [N, 3, 3], in pixels of the frames.
        focus: typical distance of what is looked at, in world units.
    """

    viewmats: Tensor
    Ks: Tensor
    focus: float


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
    size = size or _size(given or scene.cameras)
    check_size(size[0] * (1 + depth), size[1])
    device = this_device()
    gaussians = scene.gaussians.to(device)
    if given is not None:
        flight = _along(given, gaussians, size)
    else:
        name = trajectory or ("orbit" if scene.cameras is None else "interpolate")
        flight = _by_name(name, scene, gaussians, size, num_frames or FRAMES)
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


def _along(cameras: Cameras, gaussians: Gaussians, size: tuple[int, int]) -> Path3D:
    Ks = _intrinsics(cameras, size)
    return Path3D(cameras.viewmats, Ks, _focus(gaussians, cameras.viewmats, Ks, size))


def _by_name(
    name: str, scene: SceneInput, gaussians: Gaussians, size: tuple[int, int], num_frames: int
) -> Path3D:
    if scene.cameras is not None:
        viewmats, Ks = scene.cameras.viewmats, _intrinsics(scene.cameras, size)
        focus = _focus(gaussians, viewmats, Ks, size)
    elif name == "interpolate":
        raise InputError(
            f"interpolate flies from camera to camera, and '{scene.path}' has none: name them with"
            " --cameras, or choose orbit or spiral"
        )
    else:
        viewmats, Ks, focus = _before(scene.gaussians, size)
    if name == "interpolate":
        return _through(viewmats, Ks, focus, num_frames)
    path = TRAJECTORIES[name](viewmats, num_frames, depth=focus)
    return Path3D(path, Ks[len(Ks) // 2].expand(num_frames, 3, 3), focus)


def _through(viewmats: Tensor, Ks: Tensor, focus: float, num_frames: int) -> Path3D:
    kept = torch.linspace(0, len(Ks) - 1, min(_SMOOTH, len(Ks))).round().long()
    viewmats, Ks = viewmats[kept], Ks[kept]
    time = torch.linspace(0, len(Ks) - 1, num_frames, dtype=torch.float64)
    before = time.floor().long().clamp(max=max(len(Ks) - 2, 0))
    after = (before + 1).clamp(max=len(Ks) - 1)
    between = torch.lerp(Ks[before], Ks[after], (time - before)[:, None, None])
    return Path3D(interpolate(viewmats, num_frames, depth=focus), between, focus)


def _before(gaussians: Gaussians, size: tuple[int, int]) -> Path3D:
    """One camera before the scene, that looks along its z at the middle and has the core in view.

    Of a scene that was seen from one side, that is about where it was seen from.
    """
    width, height = size
    focal = width / 2 / math.tan(math.radians(_FOV / 2))
    middle = centre(gaussians)
    x, y, z = (gaussians.means.double() - middle).unbind(-1)
    weights = gaussians.opacities.double().clamp(min=1e-9)
    needed = torch.maximum(x.abs() / (width / 2), y.abs() / (height / 2)) * focal - z
    radius = float(weighted_quantile((x * x + y * y + z * z).sqrt(), weights, _CORE))
    radius = max(radius, 3 * float(gaussians.scales.amax(1).median())) or 1.0
    distance = max(float(weighted_quantile(needed, weights, _CORE)), radius)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, 3] = middle.new_tensor([0.0, 0.0, distance]) - middle
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).double()
    return Path3D(viewmat[None], K[None], distance)


def _intrinsics(cameras: Cameras, size: tuple[int, int]) -> Tensor:
    """[V, 3, 3] for pictures of one size: scaled to cover it, the rest cut off at both sides."""
    if not all(lens.is_pinhole for lens in cameras.lenses):
        logger.warning("the cameras' lenses bend straight lines, and the video does not")
    return torch.stack(
        [
            resize_crop_intrinsics(lens.K(), lens.width, lens.height, *size)
            for lens in cameras.lenses
        ]
    )


def _size(cameras: Cameras | None) -> tuple[int, int]:
    if cameras is None:
        return _WIDTH, _HEIGHT
    return cameras.lenses[0].width, cameras.lenses[0].height


def _focus(gaussians: Gaussians, viewmats: Tensor, Ks: Tensor, size: tuple[int, int]) -> float:
    """Median depth that the middle camera sees; where it sees nothing, the distance to the middle
    of the scene."""
    viewmat, K = (t[len(t) // 2].float().to(gaussians.means) for t in (viewmats, Ks))
    small = 64 / max(size)
    K = K * K.new_tensor([[small], [small], [1]])
    found = focus_depth(
        gaussians,
        viewmat,
        K,
        (max(1, round(size[1] * small)), max(1, round(size[0] * small))),
        near_plane=1e-6,
    )
    if found is None:
        pose = viewmats[len(viewmats) // 2]
        found = float((pose[:3, :3] @ centre(gaussians) + pose[:3, 3]).norm())
    return found or 1.0
