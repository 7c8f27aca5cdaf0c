"""How well a scene shows views that it was not fitted to, beside a copy of the nearest picture."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdiff_video.nvs.report import EQUAL_PSNR
from mmdiff_video.scenes.fitting.device import device_of
from recon.fit import FitViews
from recon.gaussians import Gaussians
from recon.metrics import score_views
from recon.rasterize import rasterize


@dataclass(frozen=True, eq=False)
class Compared:
    """A held-out view.

    Attributes:
        truth, render, nearest: [3, H, W] in [0, 1]: the picture, the scene, and the fitted picture
            of the nearest camera.
        scores: ``held_out`` and ``nearest_frame`` -> metric -> value.
    """

    truth: Tensor
    render: Tensor
    nearest: Tensor
    scores: dict[str, dict[str, float]]


@torch.no_grad()
def render_views(
    gaussians: Gaussians,
    viewmats: Tensor,
    Ks: Tensor,
    size: tuple[int, int],
    engine: str = "auto",
) -> Tensor:
    """Render views of a scene where the engine runs: [V, H, W, 3] in [0, 1], on the CPU."""
    device = device_of(engine)
    gaussians = gaussians.to(device)
    return (
        rasterize(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
            viewmats.to(device),
            Ks.to(device),
            *size,
            sh_degree=gaussians.sh_degree,
            engine=engine,
        )
        .image.clamp(0, 1)
        .cpu()
    )


@torch.no_grad()
def compare_view(
    gaussians: Gaussians,
    view: FitViews,
    fitted: FitViews,
    size: tuple[int, int],
    depth: float,
    perceptual: Mapping[str, nn.Module],
    engine: str = "auto",
) -> Compared:
    """Score one held-out view; what a mask hides is as in the truth and counts for nothing.

    Args:
        gaussians: the scene.
        view: one view.
        fitted: all views that were fitted.
        size: width and height of the picture in ``view``.
        depth: of the scene, median, in world units.
        perceptual: as :func:`recon.metrics.score_views` takes them.
        engine: of ``recon.rasterize``.
    """
    width, height = size
    truth = _picture(view, 0, size)
    shown = render_views(gaussians, view.viewmats, view.Ks, (view.width, view.height), engine)
    render = shown[0, :height, :width].movedim(-1, 0)
    nearest = _picture(fitted, nearest_camera(view, fitted, depth), size)
    share = 1.0
    if view.masks is not None:
        mask = view.masks[0, :height, :width]
        render, nearest = (torch.where(mask, image, truth) for image in (render, nearest))
        share = float(mask.double().mean())
    scores = {}
    for name, image in {"held_out": render, "nearest_frame": nearest}.items():
        found = score_views(image[None], truth[None], perceptual)
        values = {metric: float(value[0]) for metric, value in found.items()}
        if share < 1:  # the mean squared error is that of the pixels that count
            values["psnr"] += 10 * float(torch.tensor(max(share, 1e-9)).log10())
        values["psnr"] = min(values["psnr"], EQUAL_PSNR)
        scores[name] = values
    return Compared(truth, render, nearest, scores)


def nearest_camera(view: FitViews, fitted: FitViews, depth: float) -> int:
    """Number of the fitted view whose picture should be most like that of ``view``.

    A turn moves a picture by its angle, a step by its length over the depth: the sum of both
    decides.

    Args:
        view: one view.
        fitted: the others.
        depth: of the scene, median, in world units.
    """
    away = (fitted.centres() - view.centres()[:1]).norm(dim=-1) / depth
    between = fitted.viewmats[:, :3, :3] @ view.viewmats[0, :3, :3].T
    cosine = (between.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    return int((away + cosine.clamp(-1, 1).arccos()).argmin())


def _picture(views: FitViews, number: int, size: tuple[int, int]) -> Tensor:
    width, height = size
    return views.images[number, :height, :width].movedim(-1, 0).float() / 255
