"""Flow matching: noise that depends on the sample alone, noising, and velocities."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def keyed_noise(keys: Sequence[str], seed: int, shape: Sequence[int]) -> Tensor:
    """Make one standard normal tensor per sample key, from (key, seed) alone.

    Neither the batch a sample sits in, nor chunking, nor the process that makes it matters.

    Returns:
        float32 [N, ...] of N keys and ``shape``, on the CPU.
    """
    out = []
    for key in keys:
        digest = hashlib.blake2b(
            f"{seed}\0{key}".encode(errors="surrogatepass"), digest_size=8
        ).digest()
        # torch takes any 64-bit seed as a signed integer
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
        out.append(torch.randn(*shape, generator=generator))
    return torch.stack(out)


def noised(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return ``x_t = (1 - t) x_0 + t eps``; all three broadcast."""
    return (1 - t) * x0 + t * eps


def predicts_sample(scheduler: Any) -> bool:
    """Whether a pipeline's transformer answers with the clean sample, not with the velocity.

    Diffusers keeps that in the scheduler: ``prediction_type`` is ``sample`` instead of
    ``flow_prediction``.
    """
    return scheduler.config.get("prediction_type") == "sample"


def velocity_to(x0: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
    """Return the velocity of the flow that leads to a predicted sample, ``(x_t - x_0) / t``.

    Args:
        x0, noisy: [N, ...].
        t: [N], above 0.
    """
    return (noisy - x0) / t.reshape(-1, *[1] * (noisy.ndim - 1))


def velocity_of(predicted: Tensor, noisy: Tensor, t: Tensor, scheduler: Any) -> Tensor:
    """Return the velocity that a prediction means: itself, or that of the flow to a clean sample.

    Args:
        predicted, noisy: [N, ...].
        t: [N], above 0.
        scheduler: the pipeline's, see :func:`predicts_sample`.
    """
    if predicts_sample(scheduler):
        return velocity_to(predicted, noisy, t).to(predicted.dtype)
    return predicted
