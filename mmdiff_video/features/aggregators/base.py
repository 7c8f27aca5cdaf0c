"""Fuse the activations of several denoising timesteps into one map per tapped layer.

The paper's module (Sec. 3.1, Eq. 2, App. F) is ``adaptive``. The other entries of
:data:`AGGREGATORS` are its ablations: normalisation, projection and refinement are shared, so that
they differ in the mixing over timesteps only.

Shapes: B samples, T timesteps, C channels of a tap, D aggregator width, F x H x W token grid.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdiff_video.checks import check_fields
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.features.aggregators.cbam import CBAM


@dataclass(frozen=True, kw_only=True)
class AggregatorConfig:
    """Hyperparameters of every aggregator.

    Where Sec. 3.1 and App. F of the paper contradict each other, the default is App. F and the
    attribute says what Sec. 3.1 has.

    Attributes:
        width: hidden width D, the channels of the fused maps.
        depth: transformer layers over the timesteps (``adaptive`` only, as are the next four).
        heads: attention heads.
        mlp_ratio: width of the feed-forward layer over D (the paper does not say).
        dropout: on the output of both residual branches (the paper does not say where).
        layer_scale: initial LayerScale. 1e-6 in App. F; 1e-4 in Sec. 3.1.
        norm_first: LayerNorm over C, then the projection C -> D (App. F); False: the projection,
            then LayerNorm over D (Sec. 3.1).
        skip_before_cbam: add ``gate * F_0`` to the mixture, then refine with CBAM (App. F, Fig. 8);
            False: refine the mixture with CBAM, then add ``F_0`` itself (Eq. 2).
        gate_init: initial gate of the skip; unused where ``skip_before_cbam`` is False.
        cbam_reduction: channel reduction of CBAM's MLP (16 in the CBAM paper).
        cbam_space_kernel: CBAM's kernel over rows and columns (7 in the CBAM paper), odd.
        cbam_time_kernel: CBAM's kernel over latent frames, odd (the paper speaks of images only).
    """

    width: int = 768
    depth: int = 3
    heads: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.1
    layer_scale: float = 1e-6
    norm_first: bool = True
    skip_before_cbam: bool = True
    gate_init: float = 0.1
    cbam_reduction: int = 16
    cbam_space_kernel: int = 7
    cbam_time_kernel: int = 3

    def __post_init__(self) -> None:
        check_fields(self, "aggregator.", width=1, heads=1, mlp_ratio=1, cbam_reduction=1, depth=0)
        if self.width % self.heads:
            raise InputError(
                f"aggregator.width {self.width} is not a multiple of aggregator.heads {self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"aggregator.dropout must be in [0, 1), not {self.dropout}")
        for name in ("cbam_space_kernel", "cbam_time_kernel"):
            if getattr(self, name) % 2 == 0:
                raise InputError(f"aggregator.{name} must be odd, not {getattr(self, name)}")


class TimestepLayer(nn.Module):
    """Pre-norm transformer layer over the T timesteps of every position: [..., T, D] in and out."""

    def __init__(self, config: AggregatorConfig):
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


class LayerAggregator(nn.Module, ABC):
    """One tapped layer: [B, T, C, F, H, W] -> [B, D, F, H, W].

    Normalises and projects every timestep with parameters of its own, mixes the timesteps (what
    subclasses define), and refines the mixture with CBAM and a skip from the cleanest timestep.
    """

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__()
        self.norm_first = config.norm_first
        self.cleanest = timesteps.index(min(timesteps))
        normed = channels if config.norm_first else config.width
        self.norms = nn.ModuleList(nn.LayerNorm(normed) for _ in timesteps)
        self.projections = nn.ModuleList(nn.Linear(channels, config.width) for _ in timesteps)
        self.gate = (
            nn.Parameter(torch.tensor(config.gate_init)) if config.skip_before_cbam else None
        )
        self.cbam = CBAM(
            config.width,
            reduction=config.cbam_reduction,
            time_kernel=config.cbam_time_kernel,
            space_kernel=config.cbam_space_kernel,
        )

    def project(self, maps: Tensor) -> Tensor:
        """Normalise and project each timestep: [B, T, C, F, H, W] -> [B, F, H, W, T, D].

        The maps are taken to float32 first, one timestep at a time: their norms grow far beyond
        what bfloat16 can subtract a mean from.
        """
        tokens = []
        for t, (norm, projection) in enumerate(zip(self.norms, self.projections, strict=True)):
            x = maps[:, t].movedim(1, -1).float()  # [B, F, H, W, C]
            tokens.append(projection(norm(x)) if self.norm_first else norm(projection(x)))
        return torch.stack(tokens, dim=-2)

    @abstractmethod
    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mix [B, F, H, W, T, D] over T.

        Returns:
            the mixture [B, F, H, W, D], and the weights [B, F, H, W, T] (summing to 1 over T) that
            made it, or None where it is no weighted sum.
        """

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Fuse the timesteps.

        Returns:
            the fused map [B, D, F, H, W], and the mixing weights [B, T, F, H, W] or None.
        """
        tokens = self.project(maps)
        mixture, weights = self.mix(tokens)
        mixture = mixture.movedim(-1, 1)
        clean = tokens[..., self.cleanest, :].movedim(-1, 1)
        if self.gate is not None:
            fused = self.cbam(mixture + self.gate * clean)
        else:
            fused = self.cbam(mixture) + clean
        return fused, None if weights is None else weights.movedim(-1, 1)


class SingleTimestep(LayerAggregator):
    """Reads the cleanest timestep and has parameters for no other.

    To study another one, extract and build with that timestep alone.
    """

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, (min(timesteps),))
        self.read = timesteps.index(min(timesteps))

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the one timestep there is."""
        return tokens[..., 0, :], tokens.new_ones(tokens.shape[:-1])

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Fuse the cleanest of the T maps; its mixing weight is 1, the others' 0."""
        fused, ones = super().forward(maps[:, self.read : self.read + 1])
        assert ones is not None
        weights = ones.new_zeros(ones.shape[0], maps.shape[1], *ones.shape[2:])
        weights[:, self.read] = ones[:, 0]
        return fused, weights


class MeanTimesteps(LayerAggregator):
    """The plain average over timesteps."""

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weigh all timesteps alike."""
        weights = torch.full_like(tokens[..., 0], 1 / tokens.shape[-2])
        return tokens.mean(-2), weights


class ConcatTimesteps(LayerAggregator):
    """Concatenates the T projected maps and reduces T * D -> D with a 1x1 convolution."""

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, timesteps)
        self.reduce = nn.Linear(len(timesteps) * config.width, config.width)

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reduce the concatenation; there are no mixing weights."""
        return self.reduce(tokens.flatten(-2)), None


class StaticWeights(LayerAggregator):
    """One learned weight per layer and timestep, the same everywhere (Diffusion Hyperfeatures).

    Hyperfeatures normalises over all layers and timesteps at once, because it sums the layers too;
    here each layer keeps its own map, so the softmax runs over its timesteps. Starts as the mean.
    """

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, timesteps)
        self.logits = nn.Parameter(torch.zeros(len(timesteps)))

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weigh the timesteps by the learned weights."""
        return _weighted_sum(tokens, self.logits.softmax(-1).expand(tokens.shape[:-1]))


class AdaptiveWeights(LayerAggregator):
    """The paper's: a transformer over the timesteps of each position predicts their weights."""

    def __init__(self, config: AggregatorConfig, channels: int, timesteps: Sequence[float]):
        super().__init__(config, channels, timesteps)
        self.timestep_embedding = nn.Parameter(torch.empty(1, len(timesteps), config.width))
        nn.init.trunc_normal_(self.timestep_embedding, std=0.02)
        self.transformer = nn.Sequential(*(TimestepLayer(config) for _ in range(config.depth)))
        self.head = nn.Linear(config.width, 1)

    def mix(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weigh the projected (not the transformed) tokens by the predicted weights."""
        logits = self.head(self.transformer(tokens + self.timestep_embedding)).squeeze(-1)
        return _weighted_sum(tokens, logits.float().softmax(-1))


AGGREGATORS: dict[str, type[LayerAggregator]] = {
    "adaptive": AdaptiveWeights,
    "static": StaticWeights,
    "concat": ConcatTimesteps,
    "mean": MeanTimesteps,
    "single": SingleTimestep,
}


class SpatioTemporalAggregator(nn.Module):
    """One independent :class:`LayerAggregator` per tapped layer; build with
    :func:`build_aggregator`.

    Attributes:
        taps: tap names, in the order of ``layers``.
        timesteps: the set T that the parameters belong to, in the order of the maps.
        width: channels D of every fused map.
    """

    def __init__(
        self,
        variant: type[LayerAggregator],
        config: AggregatorConfig,
        layers: Mapping[str, int],
        timesteps: Sequence[float],
    ):
        super().__init__()
        if not layers:
            raise ValueError("an aggregator needs at least one tapped layer")
        if not timesteps or len(set(timesteps)) != len(timesteps):
            raise ValueError(f"an aggregator needs distinct timesteps, got {list(timesteps)}")
        self.channels = dict(layers)
        self.taps = tuple(layers)
        self.timesteps = tuple(timesteps)
        self.width = config.width
        # A module's name must not contain the dot of a tap's.
        self.layers = nn.ModuleDict(
            {_key(tap): variant(config, channels, timesteps) for tap, channels in layers.items()}
        )

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fuse ``maps`` (tap -> [B, T, C, F, H, W]) to tap -> [B, D, F, H, W].

        Raises:
            ValueError: the taps, T or C are not those that the module was built for.
        """
        self._check(maps)
        return {tap: self.layers[_key(tap)](maps[tap])[0] for tap in self.taps}

    def mixing_weights(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mixing weights, tap -> [B, T, F, H, W]: positive, summing to 1 over T.

        Raises:
            ValueError: as :meth:`forward`, or a variant that makes no weighted sum (``concat``).
        """
        self._check(maps)
        found = {}
        for tap in self.taps:
            weights = self.layers[_key(tap)](maps[tap])[1]
            if weights is None:
                raise ValueError("this aggregator does not mix by weights: there are none to show")
            found[tap] = weights
        return found

    def parameter_counts(self) -> dict[str, int]:
        """Count the parameters of each tapped layer's aggregator."""
        return {
            tap: sum(p.numel() for p in self.layers[_key(tap)].parameters()) for tap in self.taps
        }

    def _check(self, maps: Mapping[str, Tensor]) -> None:
        if set(maps) != set(self.taps):
            raise ValueError(
                f"the aggregator was built for taps {', '.join(self.taps)}, got {', '.join(maps)}"
            )
        for tap, m in maps.items():
            expected = (len(self.timesteps), self.channels[tap])
            if m.ndim != 6 or m.shape[1:3] != expected:
                raise ValueError(
                    f"the aggregator expects [B, T={expected[0]}, C={expected[1]}, F, H, W]"
                    f" at tap {tap}, got {list(m.shape)}"
                )


def build_aggregator(
    name: str,
    config: AggregatorConfig,
    *,
    layers: Mapping[str, int],
    timesteps: Sequence[float],
) -> SpatioTemporalAggregator:
    """Build an aggregator by name.

    Args:
        name: a key of :data:`AGGREGATORS`.
        config: see :class:`AggregatorConfig`.
        layers: tap name -> channels C of its maps.
        timesteps: the set T in [0, 1] in the order of the maps; the smallest is the cleanest.

    Raises:
        InputError: an unknown name; the message lists the valid ones.
    """
    if name not in AGGREGATORS:
        raise unknown_name("aggregator", name, AGGREGATORS)
    return SpatioTemporalAggregator(AGGREGATORS[name], config, layers, timesteps)


def _key(tap: str) -> str:
    return tap.replace(".", "_")


def _weighted_sum(tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum [..., T, D] over T with weights [..., T]; returns both."""
    return (weights.unsqueeze(-2).to(tokens.dtype) @ tokens).squeeze(-2), weights
