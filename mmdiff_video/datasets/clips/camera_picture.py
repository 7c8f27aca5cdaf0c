"""A picture of camera paths, to see at a glance whether the poses mean what they should.

The usual mistake, camera-to-world matrices where world-to-camera ones belong, passes every numeric
check and is obvious to the eye: the path no longer fits the motion seen in the frames beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmdiff_video.datasets.clips.clip import PosedClip
from mmdiff_video.datasets.names import shown
from mmdiff_video.files import write_aside
from recon.cameras import invert_rigid, relative_to_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FRUSTUMS = 8
_FIRST, _PATH = "#d62728", "#555555"
_CAPTION = (
    "World: the first camera's frame, file units. The wide end of a frustum is where the camera "
    "looks. Check: does the path move as the frames beside it do?\nDotted: the path if the file "
    "held camera-to-world matrices. If that one fits the frames better, the matrices are inverted."
)


def draw_cameras(clips: Sequence[PosedClip], file: Path) -> None:
    """Draw one row per clip: first and last frame, the path from above, and in three dimensions.

    Args:
        clips: usable ones.
        file: the PNG to write.

    Raises:
        ClipError: a clip's frames cannot be read.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(16, 4 * len(clips) + 0.6), layout="constrained")
    grid = figure.add_gridspec(len(clips), 4, width_ratios=(1, 1, 1.05, 1.15))
    for row, clip in enumerate(clips):
        chosen = torch.linspace(0, clip.num_frames - 1, _FRUSTUMS).round().long().unique()
        # [N, 4, 4]: from each camera to the frame of the first
        world_from_cam = invert_rigid(relative_to_first(clip.viewmats))
        path = world_from_cam[:, :3, 3]
        reach = max(float((path.amax(0) - path.amin(0)).max()), 1e-6)
        inverted = invert_rigid(relative_to_first(invert_rigid(clip.viewmats)))[:, :3, 3]
        # It may run far away; its beginning tells enough and leaves the true path large.
        inverted = inverted[(inverted.norm(dim=1) <= reach).cumprod(0).bool()]
        wires = [_frustum(clip, world_from_cam, int(i), 0.18 * reach) for i in chosen]
        for column, (frame, name) in enumerate(((0, "first"), (clip.num_frames - 1, "last"))):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(clip.read([frame])[0])
            title = f"{shown(clip.key)}\n{name} frame ({frame})"
            axes.set_title(title, fontsize=10, parse_math=False)  # keys may hold dollar signs
            axes.set_axis_off()
        _draw_top(figure.add_subplot(grid[row, 2]), path, inverted, wires)
        _draw_space(figure.add_subplot(grid[row, 3], projection="3d"), path, wires)
    figure.supxlabel(_CAPTION, fontsize=10, ha="left", x=0.01)
    with write_aside(file, flush=False) as aside:
        figure.savefig(aside, dpi=80)


def _frustum(clip: PosedClip, world_from_cam: Tensor, index: int, size: float) -> Tensor:
    """Wire [K, 3] of one camera in the world: apex to each corner of the image, and around it."""
    fx, fy, cx, cy = clip.intrinsics[index].tolist()
    left, right, top, bottom = -cx / fx, (1 - cx) / fx, -cy / fy, (1 - cy) / fy
    a, b, c, d = (left, top), (right, top), (right, bottom), (left, bottom)
    apex = (0.0, 0.0, 0.0)
    points = [apex, *((x, y, 1.0) for x, y in (a, b, c, d, a)), apex]
    points += [(b[0], b[1], 1.0), (c[0], c[1], 1.0), apex, (d[0], d[1], 1.0)]
    wire = size * torch.tensor(points, dtype=world_from_cam.dtype)
    pose = world_from_cam[index]
    return wire @ pose[:3, :3].T + pose[:3, 3]


def _draw_top(axes: "Axes", path: Tensor, inverted: Tensor, wires: list[Tensor]) -> None:
    axes.plot(path[:, 0], path[:, 2], color=_PATH, linewidth=1)
    for wire, colour, width in _styled(wires):
        axes.plot(wire[:, 0], wire[:, 2], color=colour, linewidth=width)
    axes.plot(inverted[:, 0], inverted[:, 2], ":", color=_PATH, linewidth=1.2)
    axes.plot(path[0, 0], path[0, 2], "o", color=_FIRST, markersize=7)
    axes.annotate(
        "first",
        (float(path[0, 0]), float(path[0, 2])),
        (6, -12),
        textcoords="offset points",
        color=_FIRST,
    )
    axes.set_title("from above: first camera looks up the page", fontsize=10)
    axes.set_xlabel("x, right")
    axes.set_ylabel("z, forward")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(alpha=0.3)


def _draw_space(axes: Any, path: Tensor, wires: list[Tensor]) -> None:
    # Plot axes are x right, z forward, and -y up, so that the picture stands upright.
    axes.plot(path[:, 0], path[:, 2], -path[:, 1], color=_PATH, linewidth=1)
    for wire, colour, width in _styled(wires):
        axes.plot(wire[:, 0], wire[:, 2], -wire[:, 1], color=colour, linewidth=width)
    axes.scatter(*path[0, [0, 2, 1]].tolist(), color=_FIRST, s=40)
    axes.set_xlabel("x, right")
    axes.set_ylabel("z, forward")
    axes.set_zlabel("-y, up")
    axes.set_title("red: first camera, then violet to yellow", fontsize=10)
    # Equal units on all axes, with room for the labels.
    limits = (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())
    axes.set_box_aspect([high - low for low, high in limits], zoom=0.85)
    axes.view_init(elev=25, azim=-70)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4)


def _styled(wires: list[Tensor]) -> list[tuple[Tensor, Any, float]]:
    """Give every wire its colour and line width: the first stands out, the others show time."""
    from matplotlib import colormaps

    colours = colormaps["plasma"]
    last = max(len(wires) - 1, 1)
    later = [(w, colours(0.1 + 0.8 * i / last), 1.2) for i, w in enumerate(wires[1:], start=1)]
    return [(wires[0], _FIRST, 2.2), *later]
