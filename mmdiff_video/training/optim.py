"""The optimiser, the moving average of the weights, and the sum of gradients over processes."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from accelerate.utils import convert_to_fp32, reduce
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmdiff_video.training.attention import Float32Attention
from mmdiff_video.training.config import TrainConfig
from mmdiff_video.training.muon import Muon, hidden_weights
from mmdiff_video.training.precision import takes_bf16

_BUCKET = 32 * 2**20
"""Most gradient elements (128 MiB) in one message between processes."""


def make_optimizer(
    model: nn.Module, config: TrainConfig, lr_factors: Mapping[str, float]
) -> Optimizer:
    """Make the config's optimiser, with named parameters and a factor on the rate for every group.

    Args:
        model: its trainable parameters must be float32; frozen ones are left out.
        config: optimiser, learning rate and decay.
        lr_factors: start of a parameter's name -> factor on the learning rate; where several
            match, the longest wins; without a match the factor is 1.

    Raises:
        ValueError: a start that no trainable parameter has, or nothing to train.
    """
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("the model has no trainable parameters")
    unmatched = [s for s in lr_factors if not any(n.startswith(s) for n in trainable)]
    if unmatched:
        raise ValueError(f"lr_factors: no trainable parameter starts with {unmatched}")
    hidden = hidden_weights(model) if config.optimizer == "muon" else set()
    groups: dict[tuple[float, float, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in trainable.items():
        assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}: train in float32"
        start = max((s for s in lr_factors if name.startswith(s)), key=len, default=None)
        factor = 1.0 if start is None else lr_factors[start]
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor, decay, name in hidden), []).append((name, parameter))
    packed = [
        {
            "params": parameters,
            "weight_decay": decay,
            "lr_factor": factor,
            "orthogonal": orthogonal,
        }
        for (factor, decay, orthogonal), parameters in groups.items()
    ]
    if config.optimizer == "adamw":
        return AdamW(packed, lr=config.lr)
    bf16 = takes_bf16(config.precision, next(iter(trainable.values())).device)
    dtype = torch.bfloat16 if bf16 else torch.float32
    return Muon(packed, lr=config.lr, compute_dtype=dtype)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give every group its factor times the rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def make_ema(model: nn.Module) -> AveragedModel:
    """Copy the model into its moving average, whose first update will copy it again."""
    return AveragedModel(model).eval().requires_grad_(False)


def update_ema(ema: AveragedModel, model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights after step number ``step``; buffers are copied."""
    ema.multi_avg_fn = get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))
    ema.update_parameters(model)


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


@contextmanager
def bf16_forward(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run the model's forward under bf16 autocast and give its outputs back in float32.

    Only the forward: losses and rendering in the caller stay in float32. Tensors are converted back
    inside tuples, lists and dicts; a container of another class must convert its own.
    """
    forward = model.forward

    def in_bf16(*args, **kwargs):
        attention = Float32Attention() if device.type == "cpu" else nullcontext()
        with torch.autocast(device.type, torch.bfloat16), attention:
            return convert_to_fp32(forward(*args, **kwargs))

    # found before the class's own method; deleting it uncovers that again
    model.forward = in_bf16
    try:
        yield
    finally:
        del model.forward


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
