"""What all aggregators share: settings, normalisation, projection and refinement.

Shapes: B samples, T timesteps, C channels of a tap, D aggregator width, F x H x W token grid.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdiff_video.checks import check_fields
from mmdiff_video.errors import InputError
from mmdiff_video.features.aggregators.cbam import CBAM


@dataclass(frozen=True, kw_only=True)
class AggregatorConfig(ABC):
    """Settings of every aggregator; each variant adds its own, and builds itself.

    Where Sec. 3.1 and App. F of the paper contradict each other, the default is App. F and the
    attribute says what Sec. 3.1 has.

    Attributes:
        width: hidden width D, the channels of the fused maps.
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
    norm_first: bool = True
    skip_before_cbam: bool = True
    gate_init: float = 0.1
    cbam_reduction: int = 16
    cbam_space_kernel: int = 7
    cbam_time_kernel: int = 3

    def __post_init__(self) -> None:
        check_fields(self, "aggregator.", width=1, cbam_reduction=1)
        for name in ("cbam_space_kernel", "cbam_time_kernel"):
            if getattr(self, name) % 2 == 0:
                raise InputError(f"aggregator.{name} must be odd, not {getattr(self, name)}")

    @abstractmethod
    def build(self, channels: int, timesteps: Sequence[float]) -> "LayerAggregator":
        """Build the module of one tapped layer, with fresh weights.

        Args:
            channels: C of the layer's maps.
            timesteps: the set T in [0, 1] in the order of the maps; the smallest is the cleanest.
        """


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


def weighted_sum(tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum [..., T, D] over T with weights [..., T]; returns both."""
    return (weights.unsqueeze(-2).to(tokens.dtype) @ tokens).squeeze(-2), weights
