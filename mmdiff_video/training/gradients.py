"""A step's gradients: their sum over the processes, and their size."""

import math
from collections.abc import Iterator

import torch
from accelerate.utils import reduce
from torch import Tensor, nn

_BUCKET = 32 * 2**20
"""Most gradient elements (128 MiB) in one message between processes."""


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in few large messages.

    A process without a gradient for a parameter (no usable sample, an unused head) adds zero; a
    parameter that no process has one for keeps None, so that the optimiser leaves it alone.
    """
    device = parameters[0].device
    present = torch.tensor([p.grad is not None for p in parameters], device=device)
    present = _sum(present.float()).tolist()
    wanted = [p for p, count in zip(parameters, present, strict=True) if count]
    for bucket in _buckets(wanted):
        flat = torch.cat([_gradient(p).flatten() for p in bucket])
        parts = _sum(flat).split([p.numel() for p in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def clip_gradients(parameters: list[nn.Parameter], largest: float) -> float:
    """Scale the whole gradient down to a norm of ``largest`` (0: leave it); returns its norm."""
    return float(nn.utils.clip_grad_norm_(parameters, largest or math.inf))


def _sum(tensor: Tensor) -> Tensor:
    summed = reduce(tensor, "sum")
    assert isinstance(summed, Tensor)
    return summed


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket
