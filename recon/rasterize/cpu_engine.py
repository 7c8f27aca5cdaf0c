"""The compiled engine for CPUs (csrc/): float32, projection and blending fused, threaded.

Gradients reach the Gaussians, viewmats, Ks and the background. There are as many threads as torch
has; for a given number of them the results are the same to the last bit.
"""

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import cpu_library
from .cpu_library import Cameras, Gradients, Pictures, Scene

MAX_SIDE = 65535
"""Pixels: boxes are held in 16 bits."""


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Render every view; see :data:`recon.rasterize.ENGINES` for what an engine returns."""
    if means.device.type != "cpu" or means.dtype != torch.float32:
        raise ValueError(
            f"engine 'cpu' draws float32 tensors on the CPU, not {means.dtype} on {means.device}: "
            "use engine 'torch'"
        )
    reason = cpu_library.unavailable()
    if reason is not None:
        raise ValueError(f"engine 'cpu' cannot draw: {reason}")
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"engine 'cpu' draws up to {MAX_SIDE} pixels a side, not {width}x{height}")
    inputs = (means, quats, scales, opacities, colors, viewmats, Ks, background)
    differentiable = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in inputs
    )
    return _Render.apply(*inputs, width, height, near, far, differentiable)  # pyright: ignore[reportReturnType]


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        background: Tensor | None,
        width: int,
        height: int,
        near: float,
        far: float,
        differentiable: bool,
    ):
        inputs = [t.contiguous() for t in (means, quats, scales, opacities, colors, viewmats, Ks)]
        backgrounds = None
        if background is not None:
            backgrounds = background.expand(len(viewmats), -1).contiguous()
        image = means.new_empty(len(viewmats), height, width, colors.shape[1])
        depth, alpha = image.new_empty(2, *image.shape[:3])
        lens = (width, height, near, far)
        frame = ctypes.c_void_p()
        status = cpu_library.load().recon_render(
            _scene(inputs),
            _cameras(inputs, backgrounds, *lens),
            _pictures(image, depth, alpha),
            torch.get_num_threads(),
            cpu_library.instruction_sets().index(cpu_library.instruction_set()),
            ctypes.byref(frame) if differentiable else None,
        )
        _check(status)
        if differentiable:
            ctx.frame = _Frame(frame)
            ctx.lens = lens
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(*inputs, backgrounds, image, depth, alpha)
            ctx.background_ndim = background.ndim if background is not None else None
        return image, depth, alpha

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_image: Tensor | None, grad_depth: Tensor | None, grad_alpha: Tensor | None
    ):
        *inputs, backgrounds, image, depth, alpha = ctx.saved_tensors
        flows = [g if g is None else g.contiguous() for g in (grad_image, grad_depth, grad_alpha)]
        grads: list[Tensor | None] = [*_empty_like(inputs[:5])]
        *_, to_viewmats, to_Ks, to_background = ctx.needs_input_grad[:8]
        grads += [torch.empty_like(t) if to_viewmats or to_Ks else None for t in inputs[5:]]
        grad_backgrounds = image.new_empty(len(image), image.shape[-1]) if to_background else None
        status = cpu_library.load().recon_render_backward(
            ctx.frame.handle,
            _scene(inputs),
            _cameras(inputs, backgrounds, *ctx.lens),
            _pictures(image, depth, alpha),
            _pictures(*flows),
            Gradients(*_addresses(*grads, grad_backgrounds)),
            torch.get_num_threads(),
        )
        _check(status)
        if grad_backgrounds is not None and ctx.background_ndim == 1:
            grad_backgrounds = grad_backgrounds.sum(0)
        return *grads, grad_backgrounds, *[None] * 5


class _Frame:
    """Owns what the engine keeps between a forward and its backward passes."""

    def __init__(self, handle: ctypes.c_void_p):
        self.handle = handle
        self._release = cpu_library.load().recon_release

    def __del__(self):
        self._release(self.handle)


def _empty_like(tensors: list[Tensor]) -> list[Tensor]:
    """Uninitialised tensors in one piece of memory, which lasts as long as any of them.

    glibc's malloc takes a piece again without a page fault once one as large was freed; several of
    together twice the size it gives back to the system each time, which costs a tenth of a pass.
    """
    parts = (
        tensors[0].new_empty(sum(t.numel() for t in tensors)).split([t.numel() for t in tensors])
    )
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def _scene(inputs: list[Tensor]) -> Scene:
    means, quats, scales, opacities, colors = inputs[:5]
    pointers = (t.data_ptr() for t in (means, quats, scales, opacities, colors))
    return Scene(len(means), colors.shape[1], *pointers)


def _cameras(
    inputs: list[Tensor],
    backgrounds: Tensor | None,
    width: int,
    height: int,
    near: float,
    far: float,
) -> Cameras:
    viewmats, Ks = inputs[5:]
    behind = None if backgrounds is None else backgrounds.data_ptr()
    return Cameras(
        len(viewmats), width, height, viewmats.data_ptr(), Ks.data_ptr(), behind, near, far
    )


def _pictures(*maps: Tensor | None) -> Pictures:
    return Pictures(*_addresses(*maps))


def _addresses(*tensors: Tensor | None) -> Iterator[int | None]:
    return (None if t is None else t.data_ptr() for t in tensors)


def _check(status: int) -> None:
    """Turn a status of csrc/engine.h into an exception."""
    if status == 1:
        raise MemoryError("engine 'cpu' ran out of memory: draw fewer Gaussians or smaller images")
    if status == 2:
        raise ValueError(
            "too many Gaussians cover too much of the image (over 2^32 pairs of a Gaussian and a "
            "tile): draw fewer of them or smaller images"
        )
    if status != 0:
        raise RuntimeError("engine 'cpu' could not start its threads")
