"""Pictures of a scene: beside the truth, on the way, and as a flight."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdiff_video.pictures import save_png, save_video, side_by_side, to_uint8
from mmdiff_video.scenes.fitting.scoring import Compared, render_views
from recon.fit import FitViews
from recon.gaussians import Gaussians
from recon.trajectories import interpolate

_ROWS = 5
"""Held-out views in the picture of comparisons, at most."""

_FPS = 24.0

_SMOOTH = 24
"""Cameras that a flight goes through, at most: all of a hand-held walk would shake."""


def draw_comparisons(compared: Sequence[Compared], names: Sequence[str], file: Path) -> None:
    """Truth, render and the copy of the nearest picture, for some of the held-out views."""
    kept = np.unique(np.linspace(0, len(compared) - 1, min(_ROWS, len(compared))).round())
    chosen = [(compared[int(i)], names[int(i)]) for i in kept]
    height = max(c.truth.shape[1] for c, _ in chosen)
    width = max(c.truth.shape[2] for c, _ in chosen)
    rows, titles = [], []
    for one, name in chosen:
        rows.append(
            [_canvas(image, height, width) for image in (one.truth, one.render, one.nearest)]
        )
        scores = one.scores
        titles.append(
            f"{name}  {scores['held_out']['psnr']:.1f} dB, copy"
            f" {scores['nearest_frame']['psnr']:.1f} dB"
        )
    grid = side_by_side(
        rows,
        ["held-out picture", "scene", "copy of the nearest picture"],
        row_titles=titles,
        scale=2 if height < 200 else 1,
    )
    save_png(grid, file)


def draw_preview(truth: Tensor, render: Tensor, title: str, file: Path) -> None:
    """A held-out picture beside what the scene shows there on the way; both [H, W, 3]."""
    pair = [[to_uint8(truth), to_uint8(render)]]
    save_png(side_by_side(pair, ["held-out picture", "scene"], row_titles=[title]), file)


def draw_flight(
    gaussians: Gaussians,
    views: FitViews,
    size: tuple[int, int],
    frames: int,
    file: Path,
    engine: str,
) -> None:
    """A video along the path of the cameras.

    Args:
        gaussians: the scene.
        views: of which the cameras are flown through, in their order.
        size: width and height of the video.
        frames: of it.
        file: to write.
        engine: of ``recon.rasterize``.
    """
    kept = torch.linspace(0, len(views) - 1, min(_SMOOTH, len(views))).round().long()
    path = interpolate(views.viewmats[kept], frames, depth=1.0)
    K = views.Ks[len(views) // 2][None]

    def rendered(viewmat: Tensor) -> np.ndarray:
        return to_uint8(render_views(gaussians, viewmat[None], K, size, engine)[0])

    save_video((rendered(viewmat) for viewmat in path), file, _FPS)


def _canvas(image: Tensor, height: int, width: int) -> np.ndarray:
    """[3, H, W] as uint8 [height, width, 3], grey where it ends before."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[: image.shape[1], : image.shape[2]] = to_uint8(image.movedim(0, -1))
    return canvas
