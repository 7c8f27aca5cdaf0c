"""Forward noising of flow matching, with noise that depends on the sample alone."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def keyed_noise(keys: Sequence[str], seed: int, shape: Sequence[int]) -> Tensor:
    """Draw one standard normal tensor per sample key, from (key, seed) alone.

    Neither the batch a sample sits in, nor chunking, nor the process that draws it matters.

    Returns:
        float32 [len(keys), *shape] on the CPU.
    """
    out = []
    for key in keys:
        digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
        # torch takes any 64-bit seed as a signed integer
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
        out.append(torch.randn(*shape, generator=generator))
    return torch.stack(out)


def noised(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return ``x_t = (1 - t) x_0 + t eps``; all three broadcast."""
    return (1 - t) * x0 + t * eps
