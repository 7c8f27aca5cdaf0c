"""What every engine but the compiled one needs done around it."""

import torch
from torch import Tensor

from recon.rasterize.contract import Cameras, Meta, Rendered, Splats


def hide_broken(splats: Splats) -> Splats:
    """Make Gaussians with NaN, an infinity or a zero quaternion transparent, with zero gradients.

    They keep their places, but get harmless values. Without any such Gaussian nothing is copied.
    """
    usable = _usable(splats)
    if usable.all():
        return splats
    means, quats, scales, opacities, colors = splats
    kept = usable[:, None]
    return Splats(
        torch.where(kept, means, 0),
        torch.where(kept, quats, 1),
        torch.where(kept, scales, 1),
        torch.where(usable, opacities, 0),
        torch.where(kept if colors.ndim == 2 else kept[..., None], colors, 0),
    )


def on_backgrounds(rendered: Rendered, backgrounds: Tensor | None) -> Rendered:
    """Put backgrounds [C] or [V, C] behind what was rendered on black."""
    if backgrounds is None:
        return rendered
    image, depth, alpha = rendered
    behind = backgrounds.expand(len(image), -1)[:, None, None]
    return Rendered(image + (1 - alpha[..., None]) * behind, depth, alpha)


def nothing_rendered(splats: Splats, cameras: Cameras) -> tuple[Rendered, Meta]:
    """Black pictures for no Gaussians, or no pictures for no cameras."""
    views, count = len(cameras.viewmats), len(splats.means)
    alpha = splats.means.new_zeros(views, cameras.height, cameras.width)
    image = alpha.new_zeros(*alpha.shape, splats.channels)
    depths = alpha.new_zeros(views, count)
    means2d = alpha.new_zeros(views, count, 2)
    return Rendered(image, alpha.clone(), alpha), Meta(means2d.int(), means2d, depths)


@torch.no_grad()
def _usable(splats: Splats) -> Tensor:
    means, quats, scales, opacities, colors = splats
    if colors.ndim == 3:
        # No basis exceeds 4: where this is finite, the colour is, from every direction.
        colors = 4 * colors.abs().sum(1)
    values = torch.cat([means, quats, scales, opacities[:, None], colors], 1)
    # Zero times anything finite is zero: several times faster than isfinite().all(1).
    return ((values * 0).sum(1) == 0) & (quats != 0).any(1)
