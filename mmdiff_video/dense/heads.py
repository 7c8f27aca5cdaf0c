"""Heads that turn fused maps into dense predictions.

A head takes a list of maps [N, C, H, W], shallow layer first, all on one token grid that need not
be square, and gives [N, K, h, w] at a multiple of its size; whoever calls resizes to pixels. Both
normalise over groups of channels, so that the batch size changes nothing.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdiff_video.errors import InputError, unknown_name


@dataclass(frozen=True, kw_only=True)
class DeepLabConfig:
    """DeepLabV3+ (Chen et al. 2018).

    Attributes:
        width: channels of the branches of ASPP and of the decoder.
        rates: atrous rates of ASPP, in tokens (6, 12, 18 in the paper, on a grid of 32).
        low_width: channels that the shallowest map is reduced to before it joins the decoder.
        separable: depthwise separable convolutions, as in the paper; False: plain ones.
        dropout: before the decoder.
    """

    width: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    low_width: int = 48
    separable: bool = True
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DPTConfig:
    """DPT (Ranftl et al. 2021).

    Attributes:
        width: channels of the fusion blocks.
        stages: channels of the four reassembled maps, at 4, 2, 1 and 1/2 times the token grid.
    """

    width: int = 256
    stages: tuple[int, int, int, int] = (128, 256, 512, 512)

    def __post_init__(self) -> None:
        if len(self.stages) != 4 or min(self.stages) < 1:
            raise InputError(f"dpt.stages names four widths, not {list(self.stages)}")


class DenseHead(nn.Module, ABC):
    """From maps to a prediction; see the module for the contract."""

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[N, C, H, W] of each layer to [N, K, h, w]."""


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 branch, atrous ones, and the mean of the picture."""

    def __init__(self, config: DeepLabConfig, channels: int):
        super().__init__()
        width = config.width
        atrous = (_conv(channels, width, 3, config.separable, rate) for rate in config.rates)
        self.branches = nn.ModuleList([_conv(channels, width, 1), *atrous])
        # no normalisation: there is one token to normalise over
        self.pool = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU())
        self.project = _conv((len(config.rates) + 2) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, width, H, W]."""
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], 1))


class DeepLabV3Plus(DenseHead):
    """ASPP over the concatenation of all maps; a decoder at 4 times the token grid.

    A transformer has no map of high resolution: the shallowest tapped layer takes the place of the
    paper's low-level features.
    """

    def __init__(self, config: DeepLabConfig, channels: Sequence[int], outputs: int):
        super().__init__()
        self.aspp = ASPP(config, sum(channels))
        self.low = _conv(channels[0], config.low_width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = nn.Sequential(
            _conv(config.width + config.low_width, config.width, 3, config.separable),
            _conv(config.width, config.width, 3, config.separable),
            nn.Conv2d(config.width, outputs, 1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """See :class:`DenseHead`; the output is 4 times the grid."""
        x = torch.cat([self.aspp(torch.cat(list(maps), 1)), self.low(maps[0])], 1)
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        return self.decoder(self.dropout(x))


class ResidualUnit(nn.Module):
    """DPT's pre-activated residual unit."""

    def __init__(self, width: int):
        super().__init__()
        self.convs = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in and out."""
        return x + self.convs(x)


class Fusion(nn.Module):
    """Adds a reassembled map to what comes from the deeper stages, and doubles the size."""

    def __init__(self, width: int, deepest: bool):
        super().__init__()
        self.lateral = None if deepest else ResidualUnit(width)
        self.refine = ResidualUnit(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, here: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> Tensor:
        """[N, C, H, W], and the deeper stages' at the same size, to [N, C, size]."""
        if self.lateral is not None:
            assert deeper is not None
            here = self.lateral(here) + deeper
        x = F.interpolate(self.refine(here), size=size, mode="bilinear", align_corners=False)
        return self.out(x)


class DPT(DenseHead):
    """Hierarchical reassembly of four stages, fused from deep to shallow, at 16 times the grid.

    Four tapped layers make a stage each; of more, neighbours are concatenated; of fewer, one
    serves several stages.
    """

    def __init__(self, config: DPTConfig, channels: Sequence[int], outputs: int):
        super().__init__()
        self.groups = stage_layers(len(channels))
        widths = [sum(channels[i] for i in group) for group in self.groups]
        resample = (
            lambda c: nn.ConvTranspose2d(c, c, 4, stride=4),
            lambda c: nn.ConvTranspose2d(c, c, 2, stride=2),
            lambda c: nn.Identity(),
            lambda c: nn.Conv2d(c, c, 3, stride=2, padding=1),
        )
        self.reassemble = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, stage, 1),
                change(stage),
                nn.Conv2d(stage, config.width, 3, padding=1, bias=False),
            )
            for inputs, stage, change in zip(widths, config.stages, resample, strict=True)
        )
        self.fusions = nn.ModuleList(Fusion(config.width, deepest=i == 3) for i in range(4))
        half = config.width // 2
        self.first = nn.Conv2d(config.width, half, 3, padding=1)
        self.last = nn.Sequential(
            nn.Conv2d(half, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, outputs, 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """See :class:`DenseHead`; the output is 16 times the grid."""
        stages = [
            reassemble(torch.cat([maps[i] for i in group], 1))
            for group, reassemble in zip(self.groups, self.reassemble, strict=True)
        ]
        path = None
        for i in (3, 2, 1, 0):
            rows, columns = stages[i - 1].shape[2:] if i else (2 * s for s in stages[0].shape[2:])
            path = self.fusions[i](stages[i], path, (rows, columns))
        assert path is not None
        x = F.interpolate(self.first(path), scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(x)


HEADS: dict[str, type[DeepLabV3Plus] | type[DPT]] = {"deeplab": DeepLabV3Plus, "dpt": DPT}
"""Heads by name."""


def build_head(
    name: str,
    *,
    deeplab: DeepLabConfig,
    dpt: DPTConfig,
    channels: Sequence[int],
    outputs: int,
) -> DenseHead:
    """Build a head by name.

    Args:
        name: a key of :data:`HEADS`.
        deeplab, dpt: settings of either head; only those of the named one are read.
        channels: of the maps, shallow layer first.
        outputs: channels K of the prediction.

    Raises:
        InputError: an unknown name; lists the valid ones.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    if name == "deeplab":
        return DeepLabV3Plus(deeplab, channels, outputs)
    return DPT(dpt, channels, outputs)


def stage_layers(layers: int) -> list[list[int]]:
    """Share out tapped layers over DPT's four stages, shallow ones to fine stages."""
    shared = []
    for stage in range(4):
        start = stage * layers // 4
        shared.append(list(range(start, max((stage + 1) * layers // 4, start + 1))))
    return shared


def _conv(
    inputs: int, outputs: int, kernel: int, separable: bool = False, rate: int = 1
) -> nn.Sequential:
    padding = rate * (kernel // 2)
    if separable:
        convs = [
            nn.Conv2d(inputs, inputs, kernel, padding=padding, dilation=rate, groups=inputs),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        ]
    else:
        convs = [nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=rate, bias=False)]
    return nn.Sequential(*convs, nn.GroupNorm(math.gcd(outputs, 32), outputs), nn.ReLU())
