"""Attention in float32 inside a bf16 forward on a CPU, whose bf16 kernel is the slower one."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Float32Attention(TorchFunctionMode):
    """Casts what ``F.scaled_dot_product_attention`` reads to float32, and its result back.

    Forward and backward together, torch's flash attention for CPUs took 3.3 times as long in bf16
    as in float32 with 64 and with 256 tokens, and 0.9 times with 1,024 and 2,048 (torch 2.14, AMD
    EPYC with AVX-512 bf16, one thread); the nano backbones have a few hundred tokens.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Pass every other function by."""
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        dtype = (args[0] if args else kwargs["query"]).dtype
        with torch.autocast("cpu", enabled=False):
            attended = func(
                *(_float32(value) for value in args),
                **{name: _float32(value) for name, value in kwargs.items()},
            )
        return attended.to(dtype)


def _float32(value: Any) -> Any:
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if floats else value
