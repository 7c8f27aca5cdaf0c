"""The CUDA engine: gsplat's classic rasterisation."""

import functools

import torch
from torch import Tensor

from .preparation import any_gaussians_on_any_background


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
    if means.device.type != "cuda" or means.dtype != torch.float32:
        raise ValueError(
            f"engine 'gsplat' draws float32 tensors on CUDA, not {means.dtype} on {means.device}: "
            "use engine 'torch'"
        )
    import gsplat

    maps, alpha, _ = gsplat.rasterization(
        means,
        quats,
        scales,
        opacities,
        colors,
        viewmats,
        Ks,
        width,
        height,
        near_plane=near,
        far_plane=far,
        packed=False,
        render_mode="RGB+ED",
    )
    return maps[..., :-1], maps[..., -1], alpha[..., 0]


@functools.cache
def unavailable() -> str | None:
    """Why gsplat cannot draw here, or None. The first call may compile its kernels (minutes)."""
    try:
        from gsplat.cuda import _backend
    except Exception as error:  # the just-in-time build fails in many ways, none of them ours
        return f"{type(error).__name__}: {error}"
    built = getattr(_backend, "_C", None) is not None
    return None if built else "its CUDA kernels are not built (is nvcc on the PATH?)"
