"""The compiled engine for CPUs (csrc/): float32, projection and blending fused, threaded.

Gradients reach the Gaussians, viewmats, Ks and the backgrounds. There are as many threads as torch
has; for a given number of them the results are the same to the last bit.
"""

import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.rasterize import cpu_library
from recon.rasterize.contract import Cameras, Meta, Rendered, Splats
from recon.rasterize.cpu_library import (
    PLAIN_COLORS,
    ReconCameras,
    ReconGradients,
    ReconPictures,
    ReconScene,
)
from recon.rasterize.preparation import hide_broken, nothing_rendered
from recon.rasterize.projection import meta_of, project_gaussians

MAX_SIDE = 65535
"""Pixels: boxes are held in 16 bits."""


def render(splats: Splats, cameras: Cameras, backgrounds: Tensor | None) -> Rendered:
    """Render all views at once."""
    means, width, height = splats.means, cameras.width, cameras.height
    if means.device.type != "cpu" or means.dtype != torch.float32:
        raise ValueError(
            f"engine 'cpu' renders float32 tensors on the CPU, not {means.dtype} on "
            f"{means.device}: use engine 'torch'"
        )
    reason = cpu_library.unavailable()
    if reason is not None:
        raise ValueError(f"engine 'cpu' cannot render: {reason}")
    if max(width, height) > MAX_SIDE:
        raise ValueError(
            f"engine 'cpu' renders up to {MAX_SIDE} pixels a side, not {width}x{height}"
        )
    inputs = (*splats, cameras.viewmats, cameras.Ks, backgrounds)
    differentiable = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in inputs
    )
    maps = _Render.apply(*inputs, _Lens(*cameras[2:]), differentiable)
    return Rendered(*maps)  # pyright: ignore[reportGeneralTypeIssues]


def render_with_meta(
    splats: Splats, cameras: Cameras, backgrounds: Tensor | None
) -> tuple[Rendered, Meta]:
    """Render all views at once; the meta is computed beside that, in PyTorch, without gradients."""
    rendered = render(splats, cameras, backgrounds)
    if not len(splats.means) or not len(cameras.viewmats):
        _, meta = nothing_rendered(splats, cameras)
        return rendered, meta
    with torch.no_grad():
        splats = hide_broken(splats)
        projected = [project_gaussians(splats, camera) for camera in cameras.split()]
        return rendered, meta_of(projected, len(splats.means), splats.means.dtype)


class _Lens(NamedTuple):
    """What :class:`Cameras` hold besides tensors."""

    width: int
    height: int
    near_plane: float
    far_plane: float


class _Render(torch.autograd.Function):
    """The first eight arguments are the tensors of Splats and Cameras, and the backgrounds.

    They are apart because autograd looks for tensors among the arguments, not inside of them.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        *given, backgrounds, lens, differentiable = arguments
        inputs: list[Tensor] = [t.contiguous() for t in given]
        means, *_, colors, viewmats, _ = inputs
        per_view = None
        if backgrounds is not None:
            per_view = backgrounds.expand(len(viewmats), -1).contiguous()
        image = means.new_empty(len(viewmats), lens.height, lens.width, colors.shape[-1])
        depth, alpha = image.new_empty(2, *image.shape[:3])
        frame = ctypes.c_void_p()
        status = cpu_library.load().recon_render(
            _scene(inputs),
            _cameras(inputs, per_view, lens),
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
            ctx.save_for_backward(*inputs, per_view, image, depth, alpha)
            ctx.backgrounds_ndim = backgrounds.ndim if backgrounds is not None else None
        return image, depth, alpha

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_image: Tensor | None, grad_depth: Tensor | None, grad_alpha: Tensor | None
    ):
        *inputs, per_view, image, depth, alpha = ctx.saved_tensors
        flows = [g if g is None else g.contiguous() for g in (grad_image, grad_depth, grad_alpha)]
        grads: list[Tensor | None] = [*_empty_like(inputs[:5])]
        *_, to_viewmats, to_Ks, to_backgrounds = ctx.needs_input_grad[:8]
        grads += [torch.empty_like(t) if to_viewmats or to_Ks else None for t in inputs[5:]]
        grad_backgrounds = image.new_empty(len(image), image.shape[-1]) if to_backgrounds else None
        status = cpu_library.load().recon_render_backward(
            ctx.frame.handle,
            _scene(inputs),
            _cameras(inputs, per_view, ctx.lens),
            _pictures(image, depth, alpha),
            _pictures(*flows),
            ReconGradients(*_addresses(*grads, grad_backgrounds)),
            torch.get_num_threads(),
        )
        _check(status)
        if grad_backgrounds is not None and ctx.backgrounds_ndim == 1:
            grad_backgrounds = grad_backgrounds.sum(0)
        return *grads, grad_backgrounds, None, None


class _Frame:
    """Owns what the engine keeps between a forward and its backward passes."""

    def __init__(self, handle: ctypes.c_void_p):
        self.handle = handle
        self._release = cpu_library.load().recon_release

    def __del__(self):
        self._release(self.handle)


def _empty_like(tensors: list[Tensor]) -> list[Tensor]:
    """Uninitialised tensors in one piece of memory, which lasts as long as any of them.

    Once a piece of this size was freed, glibc's malloc hands it out again without page faults.
    Several pieces of twice the size in all it returns to the system each time, which costs a tenth
    of a pass.
    """
    parts = (
        tensors[0].new_empty(sum(t.numel() for t in tensors)).split([t.numel() for t in tensors])
    )
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def _scene(inputs: list[Tensor]) -> ReconScene:
    splats = Splats(*inputs[:5])
    degree = PLAIN_COLORS if splats.sh_degree is None else splats.sh_degree
    return ReconScene(len(splats.means), splats.channels, degree, *_addresses(*splats))


def _cameras(inputs: list[Tensor], backgrounds: Tensor | None, lens: _Lens) -> ReconCameras:
    viewmats, Ks = inputs[5:]
    return ReconCameras(
        len(viewmats),
        lens.width,
        lens.height,
        *_addresses(viewmats, Ks, backgrounds),
        lens.near_plane,
        lens.far_plane,
    )


def _pictures(*maps: Tensor | None) -> ReconPictures:
    return ReconPictures(*_addresses(*maps))


def _addresses(*tensors: Tensor | None) -> Iterator[int | None]:
    return (None if t is None else t.data_ptr() for t in tensors)


def _check(status: int) -> None:
    """Turn a status of csrc/engine.h into an exception."""
    if status == 1:
        raise MemoryError(
            "engine 'cpu' ran out of memory: render fewer Gaussians or smaller images"
        )
    if status == 2:
        raise ValueError(
            "too many Gaussians cover too much of the image (over 2^32 pairs of a Gaussian and a "
            "tile): render fewer of them or smaller images"
        )
    if status != 0:
        raise RuntimeError("engine 'cpu' could not start its threads")
