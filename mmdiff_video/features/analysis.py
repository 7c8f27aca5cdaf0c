"""What the layers and timesteps of a backbone hold: the statistics of the paper's Figs. 3 and 5.

The paper names four and defines none: activation magnitude, correlation between layers, variation
of the token norms, and feature entropy. The definitions here are the plain ones, and each says what
it is. All are computed in float32, and none depends on the batch in which a sample came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdiff_video.backbones.features import DiTFeatures


@dataclass(frozen=True)
class LayerStatistics:
    """Means over samples. L taps in forward order, T timesteps.

    Attributes:
        taps: the L tap names.
        timesteps: the T timesteps.
        norm: [L, T] length of a token (L2 over channels), mean over the tokens.
        norm_variation: [L, T] standard deviation of the token lengths over their mean.
        correlation: [T, L, L] Pearson correlation between the activations of two layers, over
            tokens and channels.
        entropy: [L, T] see :func:`channel_entropy`; mean over the tokens.
        samples: how many samples were averaged.
    """

    taps: tuple[str, ...]
    timesteps: tuple[float, ...]
    norm: Tensor
    norm_variation: Tensor
    correlation: Tensor
    entropy: Tensor
    samples: int

    def as_json(self) -> dict:
        """Plain numbers, for a file."""
        tensors = ("norm", "norm_variation", "correlation", "entropy")
        return {
            "taps": list(self.taps),
            "timesteps": list(self.timesteps),
            "samples": self.samples,
            **{name: getattr(self, name).tolist() for name in tensors},
        }


def channel_entropy(maps: Tensor) -> Tensor:
    """Entropy of each token's energy over its channels: 0 in one channel alone, 1 in all alike.

    ``-sum_c p_c log p_c / log C`` with ``p_c = x_c^2 / sum x^2``: the scale of the activations,
    which differs between layers by orders of magnitude, does not enter.

    Args:
        maps: [..., C, F, H, W], C at least 2.

    Returns:
        [..., F, H, W] in [0, 1], float32; a token of zeros counts as 0.
    """
    energy = maps.float().square()
    shares = energy / energy.sum(-4, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.special.entr(shares).sum(-4) / torch.tensor(float(maps.shape[-4])).log()


def layer_statistics(features: Iterable[DiTFeatures]) -> LayerStatistics:
    """Average the statistics over the samples of all batches.

    Args:
        features: batches of one backbone with the same taps and timesteps; taps of one width.

    Raises:
        ValueError: no batch, or batches that differ in taps or timesteps.
    """
    sums: list[Tensor] | None = None
    taps: tuple[str, ...] = ()
    timesteps: tuple[float, ...] = ()
    count = 0
    for batch in features:
        if sums is None:
            taps, timesteps = tuple(batch.maps), batch.timesteps
        elif (tuple(batch.maps), batch.timesteps) != (taps, timesteps):
            raise ValueError("batches differ in their taps or timesteps")
        size = len(batch.latent)
        for sample in range(size):
            found = _statistics([m[sample].float() for m in batch.maps.values()])
            sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
        count += size
    if sums is None:
        raise ValueError("no features to analyse")
    norm, variation, correlation, entropy = (total.cpu() / count for total in sums)
    return LayerStatistics(taps, timesteps, norm, variation, correlation, entropy, count)


def _statistics(maps: Sequence[Tensor]) -> list[Tensor]:
    """Norm, its variation, correlation and entropy of one sample; maps are [T, C, F, H, W]."""
    lengths = torch.stack([m.norm(dim=1).flatten(1) for m in maps])  # [L, T, N]
    mean = lengths.mean(-1)
    flat = torch.stack([m.flatten(1) for m in maps], 1)  # [T, L, C N]
    flat = flat - flat.mean(-1, keepdim=True)
    flat = flat / flat.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    entropy = torch.stack([channel_entropy(m).flatten(1).mean(1) for m in maps])
    variation = lengths.std(-1, correction=0) / mean.clamp_min(torch.finfo(torch.float32).tiny)
    return [mean, variation, flat @ flat.mT, entropy]
