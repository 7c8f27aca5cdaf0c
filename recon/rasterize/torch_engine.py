"""The reference engine: plain PyTorch on any device, float32 or float64, differentiable."""

import torch
from torch import Tensor

from recon.rasterize.compositing import composite, list_tiles
from recon.rasterize.contract import Camera, Cameras, Meta, Rendered, Splats
from recon.rasterize.harmonics import colors_from
from recon.rasterize.preparation import hide_broken, nothing_rendered, on_backgrounds
from recon.rasterize.projection import Projected, in_float64, meta_of, project_gaussians


def render(splats: Splats, cameras: Cameras, backgrounds: Tensor | None) -> Rendered:
    """Render every view, one after the other."""
    if not len(splats.means) or not len(cameras.viewmats):
        rendered, _ = nothing_rendered(splats, cameras)
    else:
        splats = in_float64(hide_broken(splats))
        rendered = _stack(
            [
                _render_view(splats, project_gaussians(splats, camera), camera)
                for camera in cameras.split()
            ]
        )
    return on_backgrounds(rendered, backgrounds)


def render_with_meta(
    splats: Splats, cameras: Cameras, backgrounds: Tensor | None
) -> tuple[Rendered, Meta]:
    """Render every view from the ``means2d`` of the meta."""
    dtype = splats.means.dtype
    if not len(splats.means) or not len(cameras.viewmats):
        rendered, meta = nothing_rendered(splats, cameras)
    else:
        splats = in_float64(hide_broken(splats))
        projected = [project_gaussians(splats, camera) for camera in cameras.split()]
        meta = meta_of(projected, len(splats.means), dtype)
        rendered = _stack(
            [
                _render_view(splats, seen._replace(means2d=_through(means2d, seen)), camera)
                for seen, means2d, camera in zip(
                    projected, meta.means2d, cameras.split(), strict=True
                )
            ]
        )
    return on_backgrounds(rendered, backgrounds), meta


def _through(means2d: Tensor, seen: Projected) -> Tensor:
    """The centres of ``seen``, with every digit, as a function of the meta's [G, 2]."""
    rounded = means2d.index_select(0, seen.ids).to(seen.means2d.dtype)
    return rounded + (seen.means2d - rounded).detach()


def _render_view(splats: Splats, seen: Projected, camera: Camera) -> Rendered:
    """One view on black: image [H, W, C], depth and alpha [H, W]."""
    colors, depths = splats.colors.index_select(0, seen.ids), seen.depths.to(splats.colors.dtype)
    if splats.sh_degree is not None:
        colors = colors_from(colors, splats.means.index_select(0, seen.ids), camera.viewmat)
    sums, alpha = composite(
        seen.means2d,
        seen.factors,
        splats.opacities.index_select(0, seen.ids),
        torch.cat([colors, depths[:, None]], 1),
        list_tiles(seen.boxes, camera.width, camera.height),
        camera.width,
        camera.height,
    )
    depth = sums[..., -1] / alpha.clamp(min=1e-10)
    return Rendered(sums[..., :-1], depth, alpha)


def _stack(views: list[Rendered]) -> Rendered:
    return Rendered(*(torch.stack(maps) for maps in zip(*views, strict=True)))
