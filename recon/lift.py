"""Maps of views on Gaussians and back: what a pixel knows goes to the Gaussians that draw it.

A picture is linear in the colours: pixel p is the sum over the Gaussians g of w[p, g] * color[g].
The channels that :class:`Lifter` gives to a Gaussian are the mean of the maps with those same
weights, sum over p of w[p, g] * map[p] / sum over p of w[p, g], over all pixels of all views. Both
sums are gradients of the picture with respect to the colours, so that every engine computes them in
one backward pass, with no optimisation (LUDVIG, Marrie et al. 2024).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from recon.gaussians import Gaussians
from recon.rasterize import Rendered, rasterize

_TOGETHER = 32
"""Channels in one pass, at most: bounds the memory; more are hardly faster."""


class Lifted(NamedTuple):
    """What G Gaussians got of the maps."""

    channels: Tensor
    """[G, C] float32; 0 where ``weight`` is 0."""
    weight: Tensor
    """[G] float32, the pixels, in all views together, that the Gaussian draws: the sum of its
    blending weights. 0: no view sees it."""

    @property
    def seen(self) -> Tensor:
        """[G] bool, which Gaussians any view sees."""
        return self.weight > 0


class Lifter:
    """Fuses maps view by view: what has been added is not kept.

    Sums are held in float64, so that thousands of views are no matter.

    Args:
        gaussians: one scene; only its geometry and opacities matter.
        channels: C of the maps.
        engine: see :func:`recon.rasterize`.

    Raises:
        ValueError: a batch of scenes, or no channel.
    """

    def __init__(self, gaussians: Gaussians, channels: int, *, engine: str = "auto"):
        _check_one_scene(gaussians)
        if channels < 1:
            raise ValueError(f"maps must have at least one channel, not {channels}")
        self.gaussians = gaussians.detach()
        self.channels = channels
        self.engine = engine
        # the last column is that of a map of ones
        self._sums = gaussians.means.new_zeros(gaussians.num, channels + 1, dtype=torch.float64)

    def add(
        self,
        maps: Tensor,  # [V, H, W, C]
        viewmats: Tensor,  # [V, 4, 4]
        Ks: Tensor,  # [V, 3, 3]
        *,
        masks: Tensor | None = None,  # [V, H, W]
    ) -> None:
        """Add the maps of some views.

        Args:
            maps: any values; where a mask is False they may be NaN.
            viewmats: rigid world-to-camera transforms, OpenCV axes.
            Ks: intrinsics in pixels of the maps.
            masks: bool, the pixels that count; None: all.

        Raises:
            ValueError: shapes that do not fit, or a value that counts and is not finite; or as
                :func:`recon.rasterize`.
        """
        views = len(maps)
        if maps.ndim != 4 or maps.shape[-1] != self.channels:
            raise ValueError(f"maps are {tuple(maps.shape)}, expected [V, H, W, {self.channels}]")
        if len(viewmats) != views or len(Ks) != views:
            raise ValueError(
                f"{views} maps need as many viewmats and Ks, not {len(viewmats)} and {len(Ks)}"
            )
        if masks is not None and (masks.shape != maps.shape[:3] or masks.dtype != torch.bool):
            raise ValueError(
                f"masks are {masks.dtype} {tuple(masks.shape)}, expected bool"
                f" {tuple(maps.shape[:3])}"
            )
        for view in range(views):  # one at a time: many channels of many views may not fit
            here = slice(view, view + 1)
            flow = _with_ones(
                maps[here].to(self.gaussians.means), None if masks is None else masks[here]
            )
            if not flow.isfinite().all():
                raise ValueError(f"the map of view {view} holds NaN or infinity: mask it out")
            self._add(flow, viewmats[here], Ks[here])

    def lifted(self) -> Lifted:
        """The means over all that was added."""
        weight = self._sums[:, -1]
        # an engine may leave a rounding error of a weight, also a negative one
        seen = weight > 0
        means = self._sums[:, :-1] / torch.where(seen, weight, 1)[:, None]
        channels = torch.where(seen[:, None], means, 0)
        return Lifted(channels.float(), torch.where(seen, weight, 0).float())

    def _add(self, flow: Tensor, viewmats: Tensor, Ks: Tensor) -> None:
        """Add the gradients of sum(picture * flow), [1, H, W, C + 1], by the colours."""
        height, width = flow.shape[1:3]
        for first in range(0, flow.shape[-1], _TOGETHER):
            part = flow[..., first : first + _TOGETHER]
            colors = self.gaussians.means.new_zeros(self.gaussians.num, part.shape[-1])
            with torch.enable_grad():
                colors.requires_grad_()
                image = _rasterize(
                    self.gaussians, colors, viewmats, Ks, width, height, self.engine
                ).image
            (gradient,) = torch.autograd.grad(image, colors, part)
            self._sums[:, first : first + _TOGETHER] += gradient


def lift_maps(
    gaussians: Gaussians,
    maps: Tensor,  # [V, H, W, C]
    viewmats: Tensor,  # [V, 4, 4]
    Ks: Tensor,  # [V, 3, 3]
    *,
    masks: Tensor | None = None,  # [V, H, W]
    engine: str = "auto",
) -> Lifted:
    """Fuse maps of V views on the Gaussians: see :class:`Lifter`, which takes them one by one."""
    lifter = Lifter(gaussians, maps.shape[-1] if maps.ndim == 4 else 1, engine=engine)
    lifter.add(maps, viewmats, Ks, masks=masks)
    return lifter.lifted()


def render_channels(
    gaussians: Gaussians,
    channels: Tensor,  # [G, C]
    viewmats: Tensor,  # [V, 4, 4]
    Ks: Tensor,  # [V, 3, 3]
    width: int,
    height: int,
    *,
    engine: str = "auto",
) -> Rendered:
    """Render the channels of Gaussians in place of their colours.

    Returns:
        ``image`` [V, H, W, C], blended over 0: divided by ``alpha`` it is the mean of the channels
        that are seen at a pixel.

    Raises:
        ValueError: as :func:`recon.rasterize`; or a batch of scenes.
    """
    _check_one_scene(gaussians)
    channels = channels.to(gaussians.means)
    return _rasterize(gaussians, channels, viewmats, Ks, width, height, engine)


def _rasterize(
    gaussians: Gaussians,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    engine: str,
) -> Rendered:
    means = gaussians.means
    return rasterize(
        means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        colors,
        viewmats.to(means),
        Ks.to(means),
        width,
        height,
        engine=engine,
    )


def _with_ones(maps: Tensor, masks: Tensor | None) -> Tensor:
    """Append a channel of ones; what a mask leaves out is 0, whatever it was."""
    maps = torch.cat([maps, torch.ones_like(maps[..., :1])], -1)
    return maps if masks is None else torch.where(masks[..., None], maps, 0)


def _check_one_scene(gaussians: Gaussians) -> None:
    if gaussians.opacities.ndim != 1:
        raise ValueError(
            f"means are {tuple(gaussians.means.shape)}, a batch of scenes: lift them one by one"
        )
