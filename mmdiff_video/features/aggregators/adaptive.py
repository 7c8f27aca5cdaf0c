"""The paper's aggregator (Sec. 3.1, Eq. 2, App. F): weights that depend on the position."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdiff_video.checks import check_fields
from mmdiff_video.errors import InputError
from mmdiff_video.features.aggregators.base import AggregatorConfig, LayerAggregator, weighted_sum

DEEPEST = 1000
"""Layers, at most: a number far beyond is a mistake that would take hours to build."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig(AggregatorConfig):
    """Settings of the transformer over timesteps.

    Attributes:
        depth: its layers.
        heads: attention heads.
        mlp_ratio: width of the feed-forward layer over D (the paper does not say).
        dropout: on the output of both residual branches (the paper does not say where).
        layer_scale: initial LayerScale. 1e-6 in App. F; 1e-4 in Sec. 3.1.
    """

    depth: int = 3
    heads: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.1
    layer_scale: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, "aggregator.", heads=1, mlp_ratio=1, depth=0)
        if self.depth > DEEPEST:
            raise InputError(f"aggregator.depth is {self.depth}: it must be {DEEPEST} or less")
        if self.width % self.heads:
            raise InputError(
                f"aggregator.width {self.width} is not a multiple of aggregator.heads {self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"aggregator.dropout must be in [0, 1), not {self.dropout}")

    def build(self, channels: int, timesteps: Sequence[float]) -> LayerAggregator:
        return AdaptiveWeights(self, channels, timesteps)


class TimestepLayer(nn.Module):
    """Pre-norm transformer layer over the T timesteps of every position: [..., T, D] in and out."""

    def __init__(self, config: AdaptiveConfig):
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attention_scale = nn.Parameter(torch.full((width,), config.layer_scale))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mlp_scale = nn.Parameter(torch.full((width,), config.layer_scale))
        self.dropout = nn.Dropout(config.dropout)

    def attention(self, x: Tensor) -> Tensor:
        """Self-attention over T.

        Written out, because for sequences of four it is on a par with the fused kernel in float32
        and three times as fast in bfloat16 on a CPU.
        """
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # [..., heads, T, D / heads]
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        mixed = scores.float().softmax(-1).to(v.dtype) @ v
        return self.out(mixed.transpose(-2, -3).flatten(-2))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus its two scaled residual branches."""
        x = x + self.attention_scale * self.dropout(self.attention(self.attention_norm(x)))
        return x + self.mlp_scale * self.dropout(self.mlp(self.mlp_norm(x)))


class AdaptiveWeights(LayerAggregator):
    """The paper's: a transformer over the timesteps of each position predicts their weights."""

    def __init__(self, config: AdaptiveConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, timesteps)
        self.timestep_embedding = nn.Parameter(torch.empty(1, len(timesteps), config.width))
        nn.init.trunc_normal_(self.timestep_embedding, std=0.02)
        self.transformer = nn.Sequential(*(TimestepLayer(config) for _ in range(config.depth)))
        self.head = nn.Linear(config.width, 1)

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weigh the projected (not the transformed) tokens by the predicted weights."""
        logits = self.head(self.transformer(tokens + self.timestep_embedding)).squeeze(-1)
        return weighted_sum(tokens, logits.float().softmax(-1))
