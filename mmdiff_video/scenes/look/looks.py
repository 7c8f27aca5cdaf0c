"""How a scene may look to a camera: pictures by the rasterizer, true to its every Gaussian."""

import dataclasses
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.pictures import colorize_depth, depth_range, save_video, stamp, to_uint8
from mmdiff_video.scenes.look.camera_path import Camera, write_cameras
from mmdiff_video.scenes.look.content import Content
from recon.gaussians import Gaussians
from recon.rasterize import Rendered, rasterize

Size = tuple[int, int]
"""Width and height, in pixels."""


@torch.no_grad()
def _render(content: Content, cameras: Sequence[Camera], size: Size) -> Rendered:
    """Render on the background of a scene."""
    gaussians = _gaussians(content)
    device = gaussians.means.device
    return rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        torch.stack([camera.viewmat for camera in cameras]).float().to(device),
        torch.stack([camera.lens(*size).K() for camera in cameras]).float().to(device),
        *size,
        near_plane=content.near,
        sh_degree=gaussians.sh_degree,
        backgrounds=torch.full((3,), content.background, device=device),
    )


Look = Callable[[Content, Sequence[Camera], Size], Iterator[NDArray[np.uint8]]]
"""Pictures uint8 [H, W, 3] of a scene with Gaussians, made one by one for each camera."""


def _colour(content: Content, cameras: Sequence[Camera], size: Size) -> Iterator[NDArray[np.uint8]]:
    for camera in cameras:
        yield to_uint8(_render(content, [camera], size).image[0])


def _depth(content: Content, cameras: Sequence[Camera], size: Size) -> Iterator[NDArray[np.uint8]]:
    """By inverse depth, on one scale for all cameras."""
    few = cameras[:: max(1, len(cameras) // 8)]
    small = _render(content, few, (64, max(1, round(64 * size[1] / size[0]))))
    limits = depth_range(small.depth, small.alpha)
    for camera in cameras:
        seen = _render(content, [camera], size)
        yield to_uint8(colorize_depth(seen.depth, seen.alpha, *limits)[0])


def _labels(content: Content, cameras: Sequence[Camera], size: Size) -> Iterator[NDArray[np.uint8]]:
    gaussians = _gaussians(content)
    colors = _label_colors(content).to(gaussians.means.device).float() / 255
    painted = dataclasses.replace(content, gaussians=dataclasses.replace(gaussians, colors=colors))
    for camera in cameras:
        yield to_uint8(_render(painted, [camera], size).image[0])


LOOKS: dict[str, Look] = {"colour": _colour, "depth": _depth, "labels": _labels}
"""By name."""

SPLAT_LOOKS = ("colour", "labels")
"""Those in which a Gaussian has one colour from everywhere, so that browsers can draw them."""


def looks_of(content: Content) -> list[str]:
    """The looks that there are of a scene; none without Gaussians."""
    if content.gaussians is None:
        return []
    return [name for name in LOOKS if name != "labels" or content.labels is not None]


def picture_file(content: Content, camera: Camera, size: Size, look: str = "colour") -> bytes:
    """A PNG of what a camera sees."""
    picture = next(LOOKS[look](content, [camera], size))
    file = io.BytesIO()
    Image.fromarray(_stamped(picture, content)).save(file, format="PNG")
    return file.getvalue()


def video_file(
    content: Content,
    cameras: Sequence[Camera],
    size: Size,
    *,
    fps: float,
    look: str = "colour",
    progress: Callable[[float], None] = lambda share: None,
) -> bytes:
    """An mp4 of what cameras see, a frame for each.

    Args:
        content: with Gaussians.
        cameras: one or more.
        size: of the frames.
        fps: frames a second.
        look: a key of :data:`LOOKS`.
        progress: is told the share that is done, in [0, 1].
    """

    def frames() -> Iterator[NDArray[np.uint8]]:
        for number, picture in enumerate(LOOKS[look](content, cameras, size), start=1):
            yield _stamped(picture, content)
            progress(number / len(cameras))

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "path.mp4"
        save_video(frames(), file, fps)
        return file.read_bytes()


def cameras_file(cameras: Sequence[Camera], size: Size) -> bytes:
    """A ``transforms.json`` of cameras, as :func:`.camera_path.write_cameras` has it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cameras.json"
        write_cameras(file, cameras, *size)
        return file.read_bytes()


def splat_colors(content: Content, look: str) -> NDArray[np.uint8]:
    """Colours for Gaussians that have one each: uint8 [G, 3]; of harmonics, the constant one.

    Raises:
        InputError: a look that is of a camera, not of the Gaussians.
    """
    if look == "colour":
        return to_uint8(constant_colors(_gaussians(content)))
    if look == "labels":
        return _label_colors(content).numpy()
    raise InputError(f"the look '{look}' is none that single Gaussians have")


def constant_colors(gaussians: Gaussians) -> Tensor:
    """The part of their colours that is the same from every direction, [G, 3]."""
    if gaussians.sh_degree is None:
        return gaussians.colors
    from recon.io.columns import SH_C0

    return 0.5 + SH_C0 * gaussians.colors[:, 0]


def _gaussians(content: Content) -> Gaussians:
    if content.gaussians is None:
        raise InputError(f"'{content.name}' has no Gaussians to make a picture of")
    return content.gaussians


def _label_colors(content: Content) -> Tensor:
    if content.labels is None:
        raise InputError(f"the Gaussians of '{content.name}' have no labels")
    return content.labels


def _stamped(picture: NDArray[np.uint8], content: Content) -> NDArray[np.uint8]:
    return stamp(picture, content.notice) if content.notice else picture
