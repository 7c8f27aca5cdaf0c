"""What else a fit may learn of each view: where its camera really was, and its exposure."""

import torch
from torch import Tensor, nn

from recon.cameras import compose


class PoseCorrection(nn.Module):
    """A small rigid motion of each of V cameras, none at the start."""

    def __init__(self, views: int):
        super().__init__()
        self.rotation = nn.Parameter(torch.zeros(views, 3))
        self.translation = nn.Parameter(torch.zeros(views, 3))

    def forward(self, views: Tensor, viewmats: Tensor) -> Tensor:
        """Move ``viewmats`` [N, 4, 4] of the views of the numbers [N], in camera axes."""
        return compose(rigid(self.rotation[views], self.translation[views]), viewmats)


class ExposureCorrection(nn.Module):
    """A gain and an offset for each channel of each of V pictures, none at the start."""

    def __init__(self, views: int):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(views, 3))
        self.offset = nn.Parameter(torch.zeros(views, 3))

    def forward(self, views: Tensor, images: Tensor) -> Tensor:
        """Expose renders [N, H, W, 3] as the pictures of the numbers [N] were."""
        gain = self.gain[views].exp()[:, None, None]
        return images * gain + self.offset[views][:, None, None]


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """Rigid motions [N, 4, 4] of rotation vectors (radians) and translations, [N, 3] each."""
    squared = (rotation * rotation).sum(-1)[:, None, None]
    # the series keeps the derivative at zero finite
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle**2)
    x, y, z = rotation.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    R = torch.eye(3).to(rotation) + sine * cross + cosine * compose(cross, cross)
    top = torch.cat([R, translation[..., None]], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, bottom], 1)
