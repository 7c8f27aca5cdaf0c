"""ST-LPIPS (Ghildyal and Liu, ECCV 2022): a perceptual metric whose weights come from PyPI.

Where LPIPS's VGG16 weights cannot be fetched, this one still works: the ``stlpips_pytorch`` wheel
carries trunk and linear layers in full. Only its weights are read, not its code, part of which may
not be used commercially. Its values are not LPIPS values: they must never stand under that name.

The trunk is an AlexNet made tolerant to shifts: the first convolution has stride 1, and every
subsampling is a binomial blur with reflected borders. The first blur stands between the convolution
and its ReLU.
"""

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from recon.perceptual import LpipsUnavailable, read_state_dict

MIN_SIZE = 32
"""Pixels: five layers of an AlexNet and the reflected borders of its blurs need this many."""

_CHANNELS = (64, 192, 384, 256, 256)
_NUMBERS = (0, 5, 9, 11, 13)
"""Number of each stage's convolution in the parameter names of the weights file."""
# LPIPS's: ImageNet's mean and deviation, for inputs in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class BlurPool(nn.Module):
    """Blur with [1 2 1] / 4 along both axes, then every second pixel; borders reflect by two."""

    kernel: Tensor

    def __init__(self, channels: int):
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
        self.register_buffer("kernel", kernel.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, (H + 3) // 2, (W + 3) // 2]."""
        x = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
        return nn.functional.conv2d(x, self.kernel, stride=2, groups=len(self.kernel))


class StLpips(nn.Module):
    """ST-LPIPS on an AlexNet with frozen weights, in float32 whether or not autocast is on.

    Args:
        weights: the state dict of ``alex_shift_tolerant.pth``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        layers = [
            [nn.Conv2d(3, 64, 11, padding=2), BlurPool(64), nn.ReLU()],
            [nn.MaxPool2d(3, 1), BlurPool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
            [nn.MaxPool2d(3, 1), BlurPool(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
            [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
            [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
        ]
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in layers)
        for i, (stage, number) in enumerate(zip(self.stages, _NUMBERS, strict=True)):
            convolution = next(m for m in stage.modules() if isinstance(m, nn.Conv2d))
            convolution.load_state_dict(
                {name: weights[f"net.slice{i + 1}.{number}.{name}"] for name in ("weight", "bias")}
            )
        for i, channels in enumerate(_CHANNELS):
            linear = weights[f"lin{i}.model.1.weight"].view(1, channels, 1, 1)
            self.register_buffer(f"linear{i}", linear)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Perceptual distance per image, [N]; differentiable.

        Args:
            images, targets: [N, 3, H, W] in [0, 1], at least 32 pixels each way.

        Raises:
            ValueError: images that are too small.
        """
        if min(images.shape[-2:]) < MIN_SIZE:
            raise ValueError(
                f"ST-LPIPS needs images of at least {MIN_SIZE} x {MIN_SIZE} pixels,"
                f" not {images.shape[-2]} x {images.shape[-1]}"
            )
        with torch.autocast(images.device.type, enabled=False):
            x = (2 * torch.cat([images, targets]).float() - 1 - self.shift) / self.scale
            total = x.new_zeros(len(images))
            for i, stage in enumerate(self.stages):
                x = stage(x)
                squares = x.square().sum(1, keepdim=True)
                # Where no channel is active the root has no slope; any length but 0 gives 0 there.
                length = torch.where(squares > 0, squares, 1).sqrt()
                unit = x / (length + 1e-10)
                difference = (unit[: len(images)] - unit[len(images) :]).square()
                total = total + (difference * getattr(self, f"linear{i}")).sum(1).mean((1, 2))
        return total


def load_st_lpips(device: torch.device | str = "cpu") -> StLpips | LpipsUnavailable:
    """Load ST-LPIPS, or say in one line why there is none."""
    path = _weights_file()
    if path is None:
        return LpipsUnavailable("no weights for ST-LPIPS: pip install stlpips_pytorch")
    try:
        return StLpips(read_state_dict(path)).to(device)
    # cut short, a tensor that is missing, one of another shape
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        cause = str(error).strip().partition("\n")[0]
        return LpipsUnavailable(
            f"the weights of ST-LPIPS in '{path}' cannot be used ({cause}): install stlpips_pytorch"
            " again"
        )


@cache
def _weights_file() -> Path | None:
    spec = importlib.util.find_spec("stlpips_pytorch")  # does not import it
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
    return path if path.is_file() else None
