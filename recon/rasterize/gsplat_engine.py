"""The CUDA engine: gsplat's classic rasterisation."""

import functools

import torch
from torch import Tensor

from recon.rasterize.contract import Cameras, Meta, Rendered, Splats
from recon.rasterize.preparation import hide_broken, nothing_rendered, on_backgrounds


def render(splats: Splats, cameras: Cameras, backgrounds: Tensor | None) -> Rendered:
    """Render all views at once."""
    rendered, _ = render_with_meta(splats, cameras, backgrounds)
    return rendered


def render_with_meta(
    splats: Splats, cameras: Cameras, backgrounds: Tensor | None
) -> tuple[Rendered, Meta]:
    """Render all views at once; the meta is gsplat's own."""
    means = splats.means
    if not len(means) or not len(cameras.viewmats):
        rendered, meta = nothing_rendered(splats, cameras)
        return on_backgrounds(rendered, backgrounds), meta
    if means.device.type != "cuda" or means.dtype != torch.float32:
        raise ValueError(
            f"engine 'gsplat' renders float32 tensors on CUDA, not {means.dtype} on "
            f"{means.device}: use engine 'torch'"
        )
    import gsplat

    maps, alpha, meta = gsplat.rasterization(
        *hide_broken(splats),
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        near_plane=cameras.near_plane,
        far_plane=cameras.far_plane,
        sh_degree=splats.sh_degree,
        packed=False,
        render_mode="RGB+ED",
    )
    rendered = Rendered(maps[..., :-1], maps[..., -1], alpha[..., 0])
    return (
        on_backgrounds(rendered, backgrounds),
        Meta(meta["radii"], meta["means2d"], meta["depths"]),
    )


@functools.cache
def unavailable() -> str | None:
    """Say why gsplat cannot render here, or None.

    The first call may compile its kernels, which takes minutes.
    """
    try:
        from gsplat.cuda import _backend
    except Exception as error:  # the just-in-time build fails in many ways, none of them ours
        return f"{type(error).__name__}: {error}"
    built = getattr(_backend, "_C", None) is not None
    return None if built else "its CUDA kernels are not built (is nvcc on the PATH?)"
