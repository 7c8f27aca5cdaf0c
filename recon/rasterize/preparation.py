"""What every engine but the compiled one needs done around it."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

Pictures = tuple[Tensor, Tensor, Tensor]


def any_gaussians_on_any_background(draw: Callable[..., Pictures]) -> Callable[..., Pictures]:
    """Make an engine of a function that draws on black what is finite and not empty.

    ``draw`` takes an engine's arguments without the background, with G >= 1, V >= 1 and all values
    finite.
    """

    @functools.wraps(draw)
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
        background: Tensor | None,
    ) -> Pictures:
        usable = _usable(means, quats, scales, opacities, colors)
        if not usable.all():
            means, quats, scales, opacities, colors = (
                t[usable] for t in (means, quats, scales, opacities, colors)
            )
        if len(means) and len(viewmats):
            image, depth, alpha = draw(
                means, quats, scales, opacities, colors, viewmats, Ks, width, height, near, far
            )
        else:
            alpha = means.new_zeros(len(viewmats), height, width)
            image, depth = means.new_zeros(*alpha.shape, colors.shape[1]), alpha.clone()
        if background is not None:
            behind = background.expand(len(viewmats), -1)[:, None, None]
            image = image + (1 - alpha[..., None]) * behind
        return image, depth, alpha

    return render


@torch.no_grad()
def _usable(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor
) -> Tensor:
    values = torch.cat([means, quats, scales, opacities[:, None], colors], 1)
    # Zero times anything finite is zero: several times faster than isfinite().all(1).
    return ((values * 0).sum(1) == 0) & (quats != 0).any(1)
