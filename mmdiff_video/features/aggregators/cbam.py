"""Convolutional block attention (Woo et al. 2018) over video; a one-frame video is an image."""

import torch
from torch import Tensor, nn


class CBAM(nn.Module):
    """Channel attention, then spatio-temporal attention: [B, D, F, H, W] in and out.

    - Channels: average and maximum over the whole clip go through one shared two-layer MLP; the
      sigmoid of their sum gates each channel.
    - Space and time: mean and maximum over channels go through one zero-padded convolution of
      kernel (``time_kernel``, ``space_kernel``, ``space_kernel``), whose sigmoid gates each
      position.

    For F = 1 only the kernel's middle time slice meets data, so the module is exactly image CBAM
    with a 7x7 convolution. As in the CBAM paper's formulas there is no batch normalisation (its
    public code adds one), so a sample does not depend on the batch that it sits in.
    """

    def __init__(self, width: int, *, reduction: int, time_kernel: int, space_kernel: int):
        super().__init__()
        hidden = max(width // reduction, 1)
        self.channel_mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.position_conv = nn.Conv3d(
            2,
            1,
            (time_kernel, space_kernel, space_kernel),
            padding=(time_kernel // 2, space_kernel // 2, space_kernel // 2),
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``x`` [B, D, F, H, W] twice, each time by values in (0, 1)."""
        pooled = self.channel_mlp(x.mean((2, 3, 4))) + self.channel_mlp(x.amax((2, 3, 4)))
        x = x * pooled.sigmoid()[:, :, None, None, None]
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.position_conv(summary).sigmoid()  # [B, D, F, H, W] * [B, 1, F, H, W]
