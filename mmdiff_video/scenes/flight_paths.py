"""Where the camera flies in a scene that is there."""

import logging
import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.flights import focus_depth
from mmdiff_video.scenes.scene_input import SceneInput
from recon.cameras import resize_crop_intrinsics
from recon.gaussians import Gaussians
from recon.io.camera_files import Cameras
from recon.trajectories import TRAJECTORIES, interpolate
from recon.upright import centre, weighted_quantile

logger = logging.getLogger(__name__)

_WIDTH, _HEIGHT, _FOV = 960, 540, 60.0
"""Pixels, and horizontal degrees, of the camera before a scene that has none."""

_SMOOTH = 24
"""Cameras that a flight goes through, at most: all of a hand-held walk would shake."""

_CORE = 0.9
"""Share of the opacity that such a camera has in view: the rest are floaters and the far ground."""


class FlightPath(NamedTuple):
    """N cameras, one a frame.

    Attributes:
        viewmats: [N, 4, 4], world-to-camera.
        Ks: [N, 3, 3], in pixels of the frames.
        focus: typical distance of what is looked at, in world units.
    """

    viewmats: Tensor
    Ks: Tensor
    focus: float


def along(cameras: Cameras, gaussians: Gaussians, size: tuple[int, int]) -> FlightPath:
    """Fly from camera to camera as they are.

    Args:
        cameras: in the world of the scene.
        gaussians: one scene.
        size: width and height of the frames.
    """
    Ks = _intrinsics(cameras, size)
    return FlightPath(cameras.viewmats, Ks, _focus(gaussians, cameras.viewmats, Ks, size))


def by_name(
    name: str, scene: SceneInput, gaussians: Gaussians, size: tuple[int, int], num_frames: int
) -> FlightPath:
    """Fly along a path by the scene's cameras, or by one that is put before the scene.

    Args:
        name: a key of :data:`recon.trajectories.TRAJECTORIES`.
        scene: what was given.
        gaussians: of it, on the device that draws.
        size: width and height of the frames.
        num_frames: N.

    Raises:
        InputError: ``interpolate`` of a scene without cameras.
    """
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
    return FlightPath(path, Ks[len(Ks) // 2].expand(num_frames, 3, 3), focus)


def _through(viewmats: Tensor, Ks: Tensor, focus: float, num_frames: int) -> FlightPath:
    kept = torch.linspace(0, len(Ks) - 1, min(_SMOOTH, len(Ks))).round().long()
    viewmats, Ks = viewmats[kept], Ks[kept]
    time = torch.linspace(0, len(Ks) - 1, num_frames, dtype=torch.float64)
    before = time.floor().long().clamp(max=max(len(Ks) - 2, 0))
    after = (before + 1).clamp(max=len(Ks) - 1)
    between = torch.lerp(Ks[before], Ks[after], (time - before)[:, None, None])
    return FlightPath(interpolate(viewmats, num_frames, depth=focus), between, focus)


def _before(gaussians: Gaussians, size: tuple[int, int]) -> FlightPath:
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
    return FlightPath(viewmat[None], K[None], distance)


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


def default_size(cameras: Cameras | None) -> tuple[int, int]:
    """Width and height of frames: of the first camera's pictures, or what the constants say."""
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
