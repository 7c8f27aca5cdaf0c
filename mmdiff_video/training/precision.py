"""Whether to train in bfloat16, and a model's forward in it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from accelerate.utils import broadcast_object_list, convert_to_fp32
from torch import nn

from mmdiff_video.process import processes
from mmdiff_video.training.attention import Float32Attention

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "bf16", "fp32")
"""What ``train.precision`` may be."""

_WORTH = 1.2
"""How many times as fast bf16 products must be to pay for conversions and coarser rounding."""


def settle_precision(precision: str, device: torch.device, began: str | None = None) -> str:
    """Choose ``bf16`` or ``fp32`` for a whole run: one that goes on keeps to what it began in.

    Called on every process together.

    Args:
        precision: one of :data:`PRECISIONS`; ``bf16`` and ``fp32`` are taken as they are.
        device: that the model is on.
        began: what the run began in; None: it begins now, or has not recorded it.
    """
    chosen = "bf16" if takes_bf16(precision, device) else "fp32"
    if began not in ("bf16", "fp32") or began == chosen:
        return chosen
    told = precision != "auto"
    if processes().is_main_process:
        logger.info(
            "the run began in %s and goes on in %s, %s",
            began,
            chosen if told else began,
            "as train.precision says"
            if told
            else f"though {chosen} is faster here (train.precision={chosen} takes it)",
        )
    return chosen if told else began


def takes_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: as told, or for ``auto`` where the hardware is faster in it.

    Called on every process together: the main one measures, and all take its answer. Near the limit
    their own measurements could differ, and with them their weights.

    Args:
        precision: one of :data:`PRECISIONS`.
        device: that the model is on.
    """
    if precision != "auto":
        return precision == "bf16"
    decided = [processes().is_main_process and _is_faster_in_bf16(device)]
    broadcast_object_list(decided)
    return decided[0]


def _is_faster_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_bf16_gain() > _WORTH


@cache
def cpu_bf16_gain() -> float:
    """Measure how many times as fast this CPU multiplies matrices in bf16 as in float32.

    Having the instructions does not say it: bf16 was 9 times as fast on an Intel Xeon with AMX,
    2.2 times on an AMD Zen 4, and half as fast on a Xeon that has AVX-512 bf16 without AMX. Takes
    some 50 ms, once. 0 where bf16 is emulated.
    """
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return 0.0
    factors = {
        dtype: torch.ones(512, 512, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    }
    seconds = dict.fromkeys(factors, float("inf"))
    for _ in range(7):  # in turns, and the fastest of each: other work only ever slows
        for dtype, factor in factors.items():
            started = time.perf_counter()
            torch.mm(factor, factor)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
    return seconds[torch.float32] / seconds[torch.bfloat16]


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
