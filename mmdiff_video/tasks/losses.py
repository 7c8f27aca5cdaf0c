"""Losses of the dense tasks: one value for each picture, over the pixels whose truth is known.

A picture without a known pixel costs nothing. Shapes: predictions, truths and masks [B, H, W].
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of [B, H, W] over the valid pixels of each picture: [B]."""
    weights = valid.to(values.dtype)
    # where, because what is invalid may be infinite
    return torch.where(valid, values, 0).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1)


def cross_entropy(scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of class scores [B, K, H, W]: [B]."""
    return masked_mean(F.cross_entropy(scores, labels * valid, reduction="none"), valid)


def silog(log_error: Tensor, valid: Tensor, variance_focus: float) -> Tensor:
    """Scale-invariant logarithmic loss (Eigen et al. 2014, with the root of Lee et al. 2019): [B].

    Args:
        log_error: log of predicted depth minus log of true depth.
        valid: where the depth is known.
        variance_focus: lambda; 1 ignores the scale altogether, 0 is the root mean square.
    """
    mean = masked_mean(log_error, valid)
    square = masked_mean(log_error**2, valid)
    # the small number keeps the root's slope finite
    return (square - variance_focus * mean**2).clamp_min(0).add(1e-6).sqrt()


def gradient_matching(log_error: Tensor, valid: Tensor, scales: int) -> Tensor:
    """Slopes of the log error at several scales (Li and Snavely 2018): [B]. Sharpens edges."""
    total = log_error.new_zeros(len(log_error))
    used = 0
    for scale in range(scales):
        step = 2**scale
        if min(log_error.shape[1:]) < 2 * step:
            break
        used += 1
        error, known = log_error[:, ::step, ::step], valid[:, ::step, ::step]
        error = torch.where(known, error, 0)
        across = (error[:, :, 1:] - error[:, :, :-1]).abs()
        down = (error[:, 1:] - error[:, :-1]).abs()
        total = total + masked_mean(across, known[:, :, 1:] & known[:, :, :-1])
        total = total + masked_mean(down, known[:, 1:] & known[:, :-1])
    return total / max(used, 1)


def binary_cross_entropy(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy: [B]."""
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return masked_mean(loss, valid)


def soft_iou(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """One minus the soft intersection over union: [B]. 0 for an empty mask left empty."""
    found, known = logits.sigmoid(), valid.to(logits.dtype)
    both = (found * mask * known).sum((1, 2))
    either = ((found + mask - found * mask) * known).sum((1, 2))
    return 1 - (both + 1) / (either + 1)
