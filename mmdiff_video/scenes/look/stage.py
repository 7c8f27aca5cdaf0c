"""A scene on the stage of viser, for a browser or for a page."""

import contextlib
import io
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.scenes.look.camera_path import Camera
from mmdiff_video.scenes.look.content import Content, View
from mmdiff_video.scenes.look.looks import splat_colors
from recon.gaussians import Gaussians
from recon.rotations import matrices_from_quats, quats_from_matrices

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)

_TYPICAL_SCALE = 0.25
"""What the median Gaussian measures in viser's buffers, whose covariances are float16: their
precision ends at 6e-5, and their range at 65504."""

_LARGEST_SCALE = 250.0
CAMERAS = "/cameras"
"""Node above all frusta."""

SPLATS, POINTS = "/splats", "/points"

_FRUSTUM = 0.05
"""Size of a frustum as a share of the distance to what its camera looks at."""


class Splats(NamedTuple):
    """Gaussians as viser takes them, in units of ``unit``.

    Attributes:
        centers: float32 [G, 3].
        covariances: float32 [G, 3, 3].
        opacities: uint8 [G, 1].
        unit: of length, in world units.
        kept: int64 [G], which Gaussians of the scene these are.
    """

    centers: NDArray[np.float32]
    covariances: NDArray[np.float32]
    opacities: NDArray[np.uint8]
    unit: float
    kept: NDArray[np.int64]


def splats_of(gaussians: Gaussians, most: int | None = None) -> Splats:
    """Bring Gaussians into the form, and a unit of length, that viser draws well.

    Args:
        gaussians: one scene of finite numbers.
        most: so many at most are kept, those of the largest opacity times area; None: all.
    """
    kept = torch.arange(gaussians.num, device=gaussians.means.device)
    if most is not None and most < gaussians.num:
        widest = gaussians.scales.sort(dim=1).values[:, 1:].log().sum(1).exp()
        kept = (gaussians.opacities * widest).topk(most).indices.sort().values
        gaussians = gaussians[kept]
    scales = gaussians.scales.double()
    middle = scales.amax(1).median()
    unit = float(middle) / _TYPICAL_SCALE if middle > 0 else 1.0
    axes = (
        matrices_from_quats(gaussians.quats.double())
        * (scales / unit).clamp(max=_LARGEST_SCALE)[:, None]
    )
    covariances = axes @ axes.mT
    opacities = (gaussians.opacities.clamp(0, 1) * 255).round().byte()
    return Splats(
        (gaussians.means.double() / unit).float().cpu().numpy(),
        covariances.float().cpu().numpy(),
        opacities[:, None].cpu().numpy(),
        unit,
        kept.cpu().numpy(),
    )


@dataclass(frozen=True)
class Stage:
    """A scene as viser has it.

    Attributes:
        server: of viser.
        content: of the scene.
        splats: None where it has no Gaussians.
        frusta: of its pictures, in their order.
    """

    server: "viser.ViserServer"
    content: Content
    splats: Splats | None
    frusta: "list[viser.CameraFrustumHandle]"

    def paint(self, look: str) -> "viser.GaussianSplatHandle | None":
        """Draw the Gaussians with the colours that they have in a look; instead of those before."""
        if self.splats is None:
            return None
        splats = self.splats
        return self.server.scene.add_gaussian_splats(
            SPLATS,
            splats.centers,
            splats.covariances,
            splat_colors(self.content, look)[splats.kept],
            splats.opacities,
            scale=splats.unit,
        )


def set_stage(
    server: "viser.ViserServer",
    content: Content,
    *,
    frusta: bool = True,
    most_gaussians: int | None = None,
) -> Stage:
    """Put a scene before viser's visitors: upright, seen by the camera in its middle.

    Args:
        server: of viser.
        content: what there is to look at.
        frusta: show the cameras of the pictures.
        most_gaussians: see :func:`splats_of`.
    """
    scene = server.scene
    scene.set_up_direction(_numbers(content.up))
    scene.set_background_image(behind(content))
    splats = None
    if content.gaussians is not None:
        splats = splats_of(content.gaussians, most_gaussians)
        if len(splats.kept) < content.gaussians.num:
            logger.info(
                "%d of %d Gaussians are shown, the largest and most opaque",
                *(len(splats.kept), content.gaussians.num),
            )
    views = content.views if frusta else []
    if views:
        # a visitor of Gaussians starts inside of one
        scene.add_frame(CAMERAS, show_axes=False, visible=content.gaussians is None)
    drawn = [_frustum(server, content, number, view) for number, view in enumerate(views)]
    stage = Stage(server, content, splats, drawn)
    stage.paint("colour")
    first = content.first_camera
    distance = content.focus(first)
    if len(content.points):
        scene.add_point_cloud(
            POINTS,
            content.points.numpy(),
            content.rgb.numpy(),
            point_size=0.003 * distance,
            visible=content.gaussians is None,
        )
    start = server.initial_camera
    start.position = _numbers(first.centre)
    start.look_at = _numbers(looked_at(first, distance))
    start.up = _numbers(upwards(first, content.up))
    start.fov = first.fov
    start.near, start.far = content.near, 1e6 * content.near
    return stage


def behind(content: Content) -> NDArray[np.uint8]:
    """The background of a scene as the picture, uint8 [1, 1, 3], that viser stretches."""
    return np.full((1, 1, 3), round(255 * content.background), np.uint8)


def looked_at(camera: Camera, distance: float) -> Tensor:
    """[3] float64: the point on the axis of a camera at a distance in world units."""
    return camera.centre + distance * camera.axes[2]


def upwards(camera: Camera, up: Tensor) -> Tensor:
    """What a camera that turns about must be told is up to stand as it does.

    The nearest to the ``up`` [3] of the world; of a camera on its head its own.
    """
    right, down, _ = camera.axes
    nearest = up - (up @ right) * right
    return nearest if nearest @ -down > 0.05 else -down


def import_viser() -> ModuleType:
    """The package viser, which is optional.

    Raises:
        InputError: it is not installed.
    """
    try:
        import viser
    except ImportError:
        raise InputError(
            "looking at scenes needs viser: pip install 'mmdiff-video[view]'"
        ) from None
    return viser


@contextlib.contextmanager
def open_server(host: str, port: int | None) -> "Iterator[viser.ViserServer]":
    """Start viser's server, and stop it in the end.

    Args:
        host: address that is listened to.
        port: None: the first from 8080 on that is free; 0: any that is free.

    Raises:
        InputError: viser is not installed, or the address cannot be listened to.
    """
    viser = import_viser()
    _try_address(host, port or 0)
    # it and its library announce their start and their end among what we print
    logging.getLogger("websockets").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=host, port=8080 if port is None else port, verbose=False)
    try:
        yield server
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


def _try_address(host: str, port: int) -> None:
    """Viser would take the next port, or wait for ever; an empty address is every one."""
    if not host:
        raise InputError("--host is empty: give an address, 0.0.0.0 for all")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on port {port} of '{host}' ({why}): choose others with --host and"
            " --port"
            if port
            else f"cannot listen on '{host}' ({why}): choose another --host"
        ) from None


def _frustum(
    server: "viser.ViserServer", content: Content, number: int, view: View
) -> "viser.CameraFrustumHandle":
    camera = view.camera
    size = _FRUSTUM * content.focus(camera)
    return server.scene.add_camera_frustum(
        f"{CAMERAS}/{number}",
        camera.fov,
        view.aspect,
        scale=size,
        thickness=0.005 * size,
        image=view.thumbnail,
        wxyz=quats_from_matrices(camera.axes.T).numpy(),
        position=camera.centre.numpy(),
    )


def _numbers(vector: Tensor) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z
