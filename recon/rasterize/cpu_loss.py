"""L1 + SSIM of the compiled library: value and gradient in one pass, float32, threaded."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.rasterize import cpu_library
from recon.rasterize.cpu_library import ReconComparison, ReconImages


def l1_ssim(
    prediction: Tensor,  # [N, C, H, W]
    target: Tensor,  # [N, C, H, W]
    mask: Tensor | None,  # [N, H, W] bool
    l1_scales: Tensor,  # [N] float64
    ssim_scales: Tensor,  # [N] float64
) -> Tensor:
    """Weigh the sums of ``|x - y|`` and of 1 - SSIM over what counts: [N], float32.

    Pictures are float32 on the CPU, with any strides, of at least 11 x 11 pixels. Differentiable
    once, in the prediction alone.
    """
    differentiable = torch.is_grad_enabled() and prediction.requires_grad
    return _L1Ssim.apply(prediction, target, mask, l1_scales, ssim_scales, differentiable)  # pyright: ignore[reportReturnType]


class _L1Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction, target, mask, l1_scales, ssim_scales, differentiable):
        images, channels, height, width = prediction.shape
        # In the prediction's own layout: on the way back to a renderer nothing is copied.
        gradient = torch.empty_like(prediction) if differentiable else None
        mask = None if mask is None else mask.contiguous()
        losses = torch.empty(images, dtype=torch.float64)
        status = cpu_library.load().recon_l1_ssim(
            ReconComparison(
                *(images, channels, height, width),
                *(_images(pictures) for pictures in (prediction, target, gradient)),
                None if mask is None else mask.data_ptr(),
                l1_scales.data_ptr(),
                ssim_scales.data_ptr(),
            ),
            losses.data_ptr(),
            torch.get_num_threads(),
            cpu_library.instruction_sets().index(cpu_library.instruction_set()),
        )
        if status == 1:
            raise MemoryError("the loss ran out of memory: compare fewer or smaller images")
        if status != 0:
            raise RuntimeError("the loss could not start its threads")
        ctx.save_for_backward(gradient)
        return losses.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        # One pass over the picture less for the one view of a usual step.
        if any(share != 1 for share in upstream.tolist()):
            gradient = gradient * upstream[:, None, None, None]
        return gradient, None, None, None, None, None


def _images(pictures: Tensor | None) -> ReconImages:
    if pictures is None:
        return ReconImages()
    return ReconImages(pictures.data_ptr(), pictures.stride())
