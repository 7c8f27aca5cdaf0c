"""Videos of Gaussians that a camera flies through."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmdiff_video.errors import InputError
from mmdiff_video.pictures import LONGEST_SIDE, colorize_depth, depth_range, stamp, to_uint8
from mmdiff_video.process import machine_memory
from recon.gaussians import Gaussians
from recon.rasterize import Rendered, rasterize

FRAMES = 60
"""Of a video, unless the user says otherwise."""

_MOST_FPS = 1000
"""Frames a second that players, and the reader of videos here, believe."""

_BYTES_PER_PIXEL = 350
"""What a video takes while it is made, measured at 2 to 9 megapixels: most of it are the frames
that the encoder looks ahead to."""


def check_numbers(**numbers: int | None) -> None:
    """Refuse a number of frames, a rate or a size that no video has.

    Args:
        numbers: by the names that users know; None: not given.

    Raises:
        InputError: one is below 1, or ``fps`` above 1000.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    fps = numbers.get("fps")
    if fps is not None and fps > _MOST_FPS:
        raise InputError(f"fps must be at most {_MOST_FPS}, not {fps}")


def check_size(width: int, height: int) -> None:
    """Refuse frames that cannot be encoded, or for which this machine has no memory.

    Raises:
        InputError: names the size, and what would do.
    """
    check_numbers(width=width, height=height)
    if max(width, height) > LONGEST_SIDE:
        raise InputError(
            f"a video of {width} x {height} pixels cannot be: H.264 takes {LONGEST_SIDE} a side at"
            " most"
        )
    needed, there = width * height * _BYTES_PER_PIXEL, machine_memory()
    if needed > there:
        raise InputError(
            f"a video of {width} x {height} pixels takes {needed / 2**30:.0f} GiB of memory, and"
            f" this machine has {there / 2**30:.0f}: choose a smaller size"
        )


def focus_depth(
    gaussians: Gaussians,
    viewmat: Tensor,
    K: Tensor,
    size: tuple[int, int],
    *,
    near_plane: float,
) -> float | None:
    """Median depth that a camera sees, in world units: what orbits turn about.

    Args:
        gaussians: one scene.
        viewmat: [4, 4]. K: [3, 3] in pixels.
        size: height and width of the picture, in pixels.
        near_plane: smallest camera z that is drawn, in world units.

    Returns:
        None where the camera sees nothing.

    Raises:
        InputError: the scene cannot be drawn.
    """
    out = _draw(gaussians, viewmat, K, size, near_plane, 1.0)
    seen = out.depth[out.alpha > 0.5]
    return float(seen.median()) if seen.numel() else None


def fly(
    gaussians: Gaussians,
    viewmats: Tensor,
    Ks: Tensor,
    size: tuple[int, int],
    *,
    near_plane: float,
    depth: bool = False,
    background: float = 1.0,
    notice: str = "",
) -> Iterator[np.ndarray]:
    """Draw frame after frame.

    Args:
        gaussians: one scene, with plain colours or harmonics.
        viewmats: [N, 4, 4] world-to-camera.
        Ks: [N, 3, 3] in pixels.
        size: height and width of a frame, without its depth.
        near_plane: smallest camera z that is drawn, in world units.
        depth: put the depth to the right of the picture, near in red, far in blue; the first frame
            that shows something sets the scale.
        background: grey behind the scene, 0 to 1.
        notice: is written into every frame.

    Yields:
        uint8 [H, W, 3].

    Raises:
        InputError: the scene cannot be drawn.
    """
    limits: tuple[float, float] | None = None
    for viewmat, K in zip(
        tqdm(viewmats, desc="render", unit="frame", disable=None), Ks, strict=True
    ):
        out = _draw(gaussians, viewmat, K, size, near_plane, background)
        frame = out.image[0]
        if depth:
            if limits is None and (out.alpha > 0.5).any():
                limits = depth_range(out.depth, out.alpha)
            colors = colorize_depth(out.depth, out.alpha, *(limits or (0.1, 1.0)))[0]
            frame = torch.cat([frame.cpu(), colors], 1)
        picture = to_uint8(frame)
        yield stamp(picture, notice) if notice else picture


@torch.no_grad()
def _draw(
    gaussians: Gaussians,
    viewmat: Tensor,
    K: Tensor,
    size: tuple[int, int],
    near_plane: float,
    background: float,
) -> Rendered:
    height, width = size
    try:
        return rasterize(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
            viewmat[None],
            K[None],
            width,
            height,
            near_plane=near_plane,
            backgrounds=torch.full((3,), background, device=viewmat.device),
            sh_degree=gaussians.sh_degree,
        )
    except ValueError as error:  # its sentences are for users: no memory, no camera
        raise InputError(f"the scene cannot be drawn: {error}") from None
