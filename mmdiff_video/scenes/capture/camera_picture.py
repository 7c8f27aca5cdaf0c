"""A picture of a capture's cameras and points, from above and from the side."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmdiff_video.files import write_aside
from recon.cameras import invert_rigid, relative_to_first
from recon.capture.capture import Capture, Photo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIRST, _PATH = "#d62728", "#555555"
_FRUSTUMS = 16
_MOST_POINTS = 20_000
_CAPTION = (
    "World: the first camera's frame (red), in the capture's units. The wide end of a frustum is"
    " where a camera looks."
)


def draw_capture(capture: Capture, file: Path) -> None:
    """Draw cameras and points as a PNG.

    Args:
        capture: with at least one photo.
        file: the PNG to write.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    viewmats = capture.viewmats()
    world_from_cam = invert_rigid(relative_to_first(viewmats))
    centres = world_from_cam[:, :3, 3]
    # into the frame of the first camera
    points = capture.points @ viewmats[0, :3, :3].T + viewmats[0, :3, 3]
    every = max(1, len(points) // _MOST_POINTS)
    points, colours = points[::every], capture.rgb[::every].double() / 255
    reach = float((centres.amax(0) - centres.amin(0)).max())
    depth = float(points.norm(dim=1).median()) if len(points) else 1.0
    size = max(0.15 * reach, 0.03 * depth)
    chosen = torch.linspace(0, len(centres) - 1, _FRUSTUMS).round().long().unique().tolist()
    wires = [_frustum(capture.photos[i], world_from_cam[i], size) for i in chosen]
    figure = Figure(figsize=(14, 7), layout="constrained")
    above, side = figure.subplots(1, 2)
    _draw(above, 0, 2, points, colours, centres, wires)
    above.set(title="from above", xlabel="x, right", ylabel="z, forward")
    _draw(side, 2, 1, points, colours, centres, wires)
    side.set(title="from the side", xlabel="z, forward", ylabel="y, down")
    side.invert_yaxis()
    figure.supxlabel(_CAPTION, fontsize=10, ha="left", x=0.01)
    with write_aside(file, flush=False) as aside:
        figure.savefig(aside, dpi=80)


def _draw(
    axes: "Axes",
    x: int,
    y: int,
    points: Tensor,
    colours: Tensor,
    centres: Tensor,
    wires: list[Tensor],
) -> None:
    axes.scatter(points[:, x], points[:, y], s=2, c=colours.numpy(), linewidths=0)
    axes.plot(centres[:, x], centres[:, y], color=_PATH, linewidth=1)
    for number, wire in enumerate(wires):
        colour = _FIRST if not number else _PATH
        axes.plot(wire[:, x], wire[:, y], color=colour, linewidth=1 if number else 2)
    shown = torch.cat([centres, *wires])
    low, high = shown.amin(0), shown.amax(0)
    if len(points):  # a few points far away would make all else small
        spread = torch.quantile(points, torch.tensor([0.02, 0.98]).to(points), dim=0)
        low, high = torch.minimum(low, spread[0]), torch.maximum(high, spread[1])
    margin = 0.05 * (high - low).max() + 1e-9
    axes.set_xlim(float(low[x] - margin), float(high[x] + margin))
    axes.set_ylim(float(low[y] - margin), float(high[y] + margin))
    axes.set_aspect("equal", adjustable="box")
    axes.grid(alpha=0.3)


def _frustum(photo: Photo, world_from_cam: Tensor, size: float) -> Tensor:
    """Wire [K, 3] of a camera: apex to each corner of the picture, and round it."""
    lens = photo.lens
    left, right = -lens.cx / lens.fx, (lens.width - lens.cx) / lens.fx
    top, bottom = -lens.cy / lens.fy, (lens.height - lens.cy) / lens.fy
    a, b, c, d = (left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)
    o = (0, 0, 0)
    wire = size * torch.tensor([o, a, b, c, d, a, o, b, c, o, d], dtype=torch.float64)
    return wire @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
