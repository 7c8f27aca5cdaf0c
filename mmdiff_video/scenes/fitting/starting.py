"""What a fit begins with: points of the capture, chance, or the Gaussians of a run."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmdiff_video.nvs.objective import render
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.scenes.fitting.settings import CHANCE, POINTS
from recon.fit import FitViews
from recon.fit.starts import depth_range, from_chance, start
from recon.gaussians import Gaussians

_SCALES = tuple(2.0 ** (k / 2) for k in range(-6, 7))
"""Units of length of the capture, of those that the run expects, among which the start is sought:
poses from pictures have no unit of their own."""


@dataclass(frozen=True, eq=False)
class Start:
    """Gaussians to begin with.

    Attributes:
        gaussians: in the world of the views.
        words: what they are, for the report.
    """

    gaussians: Gaussians
    words: str


def make_start(
    init: str, views: FitViews, points: Tensor, rgb: Tensor, count: int, seed: int
) -> Start:
    """Make ``count`` Gaussians to begin a fit with.

    Args:
        init: ``points``, ``chance`` or the folder of a run of ``train-3dgs``.
        views: to fit, in units in which the median depth is about 1.
        points: [N, 3] of the capture, in the world of the views.
        rgb: [N, 3] uint8.
        count: of Gaussians.
        seed: of chance.

    Raises:
        InputError: no such run, or one that cannot take these pictures.
    """
    rng = torch.Generator().manual_seed(seed)
    near, far = depth_range(views, points)
    if init == CHANCE:
        return Start(from_chance(views, count, near, far, rng), "chance")
    if init == POINTS:
        words = f"{min(len(points), count)} points of the capture, the rest from chance"
        return Start(start(views, points, rgb, count, rng), words if len(points) else "chance")
    return _from_run(Path(init), views, near, far, count, rng)


def _from_run(
    run: Path, views: FitViews, near: float, far: float, count: int, rng: torch.Generator
) -> Start:
    reconstructor = Reconstructor.from_run(run)
    setup = reconstructor.setup
    chosen = torch.linspace(0, len(views) - 1, setup.frames).round().long().tolist()
    images, Ks = _fitted(views[chosen], setup.height, setup.width)
    best: tuple[float, float, Gaussians] | None = None
    scales = _SCALES if setup.card.world_scale != "unit_baseline" else (1.0,)
    for scale in scales:
        viewmats = _scaled(views.viewmats[chosen], scale)
        found = reconstructor.predict(images, Ks, viewmats)
        found = replace(found, means=found.means / scale, scales=found.scales / scale)
        error = _error(found, images, Ks, views.viewmats[chosen])
        if best is None or error < best[0]:
            best = error, scale, found
    assert best is not None
    gaussians = best[2].to("cpu")
    gaussians = gaussians[_finite(gaussians)]
    words = f"{gaussians.num} Gaussians of {setup.config.input} of the run {run}"
    if gaussians.num > count:
        kept = torch.multinomial(gaussians.opacities.clamp(min=1e-6), count, generator=rng)
        gaussians = gaussians[kept]
        words = f"{count} of {words}"
    elif gaussians.num < count:
        missing = from_chance(views, count - gaussians.num, near, far, rng)
        gaussians = Gaussians.cat([gaussians, missing])
        words += ", the rest from chance"
    if setup.notice:
        words += f" ({setup.notice})"
    return Start(gaussians, words)


def _fitted(views: FitViews, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The middle of the pictures at the size of a run: [F, 3, H, W] in [0, 1] and Ks [F, 3, 3]."""
    share = max(height / views.height, width / views.width)
    cut_height, cut_width = round(height / share), round(width / share)
    top, left = (views.height - cut_height) // 2, (views.width - cut_width) // 2
    cut = views.images[:, top : top + cut_height, left : left + cut_width]
    images = torch.nn.functional.interpolate(
        cut.movedim(-1, 1).float() / 255, (height, width), mode="bilinear", antialias=True
    )
    Ks = views.Ks.clone()
    Ks[:, 0, 2] -= left
    Ks[:, 1, 2] -= top
    Ks[:, 0] *= width / cut_width
    Ks[:, 1] *= height / cut_height
    return images, Ks


def _scaled(viewmats: Tensor, scale: float) -> Tensor:
    scaled = viewmats.clone()
    scaled[:, :3, 3] *= scale
    return scaled


def _error(gaussians: Gaussians, images: Tensor, Ks: Tensor, viewmats: Tensor) -> float:
    height, width = images.shape[-2:]
    shown = render(gaussians, viewmats, Ks, height, width).image.clamp(0, 1)
    return float((shown - images.movedim(1, -1).to(shown)).square().mean())


def _finite(gaussians: Gaussians) -> Tensor:
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.colors)
    return torch.cat([p.reshape(gaussians.num, -1) for p in parts], 1).isfinite().all(1)
