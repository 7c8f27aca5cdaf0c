"""The values that pass between backbones, aggregators and heads. A leaf module: torch only."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class TapSpec:
    """One tapped transformer block.

    Attributes:
        name: canonical name, ``<stream>.<index>``: ``double.12``, ``single.15``, ``block.7``.
        stream: which list of blocks: ``double`` or ``single`` (FLUX), ``block`` (Wan), ``joint``
            (SD 3).
        index: position in that list, from 0.
        width: channels C of the block's output.
    """

    name: str
    stream: str
    index: int
    width: int


@dataclass(frozen=True)
class DiTFeatures:
    """Activations read out of a frozen diffusion transformer.

    Shapes: B samples, T timesteps, C channels of the block, F latent frames (1 for an image), and
    the token grid H x W, which need not be square.

    Attributes:
        maps: tap name -> [B, T, C, F, H, W], in the backbone's dtype; taps in forward order.
        timesteps: the T timesteps asked for, in [0, 1], 1 = pure noise (flow-matching sigma).
        sigmas: the sigmas actually tapped, same length. Equal to ``timesteps`` for real data; the
            nearest steps of the schedule when sampling.
        latent: [B, c, F, h, w], the clean (real data) or final denoised (sampling) latent in the
            backbone's normalised scale; the input of the paper's latent baseline.
        untrained: True when the backbone has random weights, so that nothing made from it can pass
            for a result.
        concepts: [B, K, F, H, W] concept maps in float32, the mean over the timesteps; None where
            none were asked for.
    """

    maps: dict[str, Tensor]
    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    latent: Tensor
    untrained: bool = False
    concepts: Tensor | None = None

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "DiTFeatures":
        """Move every tensor to a device and/or dtype."""
        return replace(
            self,
            maps={name: m.to(device=device, dtype=dtype) for name, m in self.maps.items()},
            latent=self.latent.to(device=device, dtype=dtype),
            concepts=None
            if self.concepts is None
            else self.concepts.to(device=device, dtype=dtype),
        )

    def nbytes(self) -> int:
        """Bytes held by the maps (the latent and concepts are small beside them)."""
        return sum(m.numel() * m.element_size() for m in self.maps.values())
