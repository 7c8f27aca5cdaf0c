"""The reference engine: plain PyTorch on any device, float32 or float64, differentiable."""

import torch
from torch import Tensor

from .compositing import composite, list_tiles
from .preparation import any_gaussians_on_any_background
from .projection import project_gaussians


@any_gaussians_on_any_background
def render(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near: float,
    far: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render every view; see :data:`recon.rasterize.ENGINES` for what an engine returns."""
    views = []
    for viewmat, K in zip(viewmats, Ks, strict=True):
        seen = project_gaussians(
            means, quats, scales, opacities, viewmat, K, width, height, near, far
        )
        features = torch.cat([colors.index_select(0, seen.ids), seen.depths[:, None]], 1)
        sums, left = composite(
            seen.means2d,
            seen.conics,
            opacities.index_select(0, seen.ids),
            features,
            list_tiles(seen.boxes, width, height),
            width,
            height,
        )
        alpha = 1 - left
        depth = sums[..., -1] / alpha.clamp(min=1e-10)
        views.append((sums[..., :-1], depth, alpha))
    image, depth, alpha = (torch.stack(maps) for maps in zip(*views, strict=True))
    return image, depth, alpha
