"""What a head says of the pictures of a fit, as a price on depth and normals of the scene.

Few pictures leave depth open where nothing has parallax. A head's depth has a scale of its own, so
that it is compared by correlation, as in FSGS (Zhu et al. 2023).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from recon.rasterize import Rendered

_SEEN = 0.5
"""Alpha from which on a pixel shows a surface."""

_LEAST_PIXELS = 16
"""That both know the depth of: fewer say nothing of a scale."""


@dataclass(frozen=True, eq=False)
class Priors:
    """Depth and normals of V pictures, of any source.

    Attributes:
        depths: [V, H, W] float32, along the optical axis, each picture up to scale and shift; 0
            where unknown. None: no depth.
        normals: [V, H, W, 3] float32 unit vectors in camera axes (OpenCV), towards the camera; 0
            where unknown. None: no normals.
    """

    depths: Tensor | None = None
    normals: Tensor | None = None

    def halved(self) -> "Priors":
        """The same for pictures of half the size: unknown where a pixel of four is."""
        depths = normals = None
        if self.depths is not None:
            depths = _pooled(self.depths[..., None])[..., 0]
        if self.normals is not None:
            normals = normalize(_pooled(self.normals), dim=-1)
        return Priors(depths, normals)

    def price(
        self, views: Tensor, rendered: Rendered, Ks: Tensor, depth: float, normals: float
    ) -> Tensor:
        """What N rendered views cost.

        Args:
            views: [N] numbers of the pictures.
            rendered: [N, H, W] views of them.
            Ks: [N, 3, 3].
            depth: weight of 1 - Pearson's correlation of depths, picture by picture.
            normals: weight of 1 - cosine of normals.
        """
        total = rendered.depth.new_zeros(())
        seen = rendered.alpha > _SEEN
        if depth and self.depths is not None:
            pairs = zip(rendered.depth, self.depths[views], seen, strict=True)
            total = total + depth * torch.stack([_depth_price(*pair) for pair in pairs]).mean()
        if normals and self.normals is not None:
            found = surface_normals(rendered.depth, Ks)
            known = self.normals[views][:, :-1, :-1]
            counted = (known.square().sum(-1) > 0) & seen[:, :-1, :-1]
            unlike = 1 - (found * known).sum(-1)
            total = total + normals * (unlike * counted).sum() / counted.sum().clamp(min=1)
        return total


def surface_normals(depth: Tensor, Ks: Tensor) -> Tensor:
    """Normals [N, H - 1, W - 1, 3] of the surface of depth maps [N, H, W], towards the camera.

    Each is the cross product of the steps to the pixels at the right and below, in camera axes.
    """
    height, width = depth.shape[-2:]
    rows = torch.arange(height, dtype=depth.dtype, device=depth.device) + 0.5
    columns = torch.arange(width, dtype=depth.dtype, device=depth.device) + 0.5
    x = (columns[None, None] - Ks[:, 0, 2, None, None]) / Ks[:, 0, 0, None, None]
    y = (rows[None, :, None] - Ks[:, 1, 2, None, None]) / Ks[:, 1, 1, None, None]
    points = torch.stack([x * depth, y * depth, depth], -1)
    right = points[:, :-1, 1:] - points[:, :-1, :-1]
    down = points[:, 1:, :-1] - points[:, :-1, :-1]
    return normalize(torch.linalg.cross(down, right), dim=-1)


def _depth_price(rendered: Tensor, prior: Tensor, seen: Tensor) -> Tensor:
    """1 - correlation. Laid over the other by least squares, a flat depth would cost nothing."""
    counted = seen & (prior > 0)
    if int(counted.sum()) < _LEAST_PIXELS:
        return rendered.sum() * 0
    mine, other = (depth[counted] - depth[counted].mean() for depth in (rendered, prior))
    spread = mine.square().mean().sqrt() * other.square().mean().sqrt()
    return 1 - (mine * other).mean() / spread.clamp(min=1e-12)


def _pooled(values: Tensor) -> Tensor:
    """Means of 2 x 2 pixels of [V, H, W, C]; 0 where one of them is."""
    height, width = (side // 2 * 2 for side in values.shape[1:3])
    cut = values[:, :height, :width].movedim(-1, 1)
    known = (cut != 0).any(1, keepdim=True).to(cut)
    return (avg_pool2d(cut, 2) * (avg_pool2d(known, 2) == 1)).movedim(1, -1)
