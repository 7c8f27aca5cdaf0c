"""Gaussians to begin a fit with, and the units to fit in."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recon.fit.views import FitViews
from recon.gaussians import Gaussians

_NEAR, _FAR = 0.02, 0.98
"""Quantiles of the points' depths between which Gaussians from chance lie: the rest are often
wrong."""

_OPACITY = 0.5
"""Of a Gaussian at the start."""

_POINT_PIXELS = 2.0
"""Standard deviation of a Gaussian from a point, in pixels of the view that it is in the middle of
the depths of."""


@dataclass(frozen=True, eq=False)
class Units:
    """World of the capture to world of the fit: x' = (x - origin) * scale.

    Attributes:
        origin: [3].
        scale: above 0.
    """

    origin: Tensor
    scale: float

    @classmethod
    def of(cls, views: FitViews, points: Tensor) -> Self:
        """Choose units in which the cameras' middle is 0 and the points' median depth 1."""
        depths = depths_of(views, points)
        depths = depths[depths > 0]
        median = float(depths.median()) if len(depths) else 1.0
        return cls(views.centres().mean(0), 1 / median)

    def views(self, views: FitViews) -> FitViews:
        """The same views in the world of the fit."""
        viewmats = views.viewmats.clone()
        moved = viewmats[:, :3, :3] @ self.origin + viewmats[:, :3, 3]
        viewmats[:, :3, 3] = moved * self.scale
        return FitViews(views.images, viewmats, views.Ks, views.masks)

    def views_back(self, views: FitViews) -> FitViews:
        """Views of the fit in the world of the capture."""
        viewmats = views.viewmats.clone()
        viewmats[:, :3, 3] /= self.scale
        viewmats[:, :3, 3] -= viewmats[:, :3, :3] @ self.origin
        return FitViews(views.images, viewmats, views.Ks, views.masks)

    def points(self, points: Tensor) -> Tensor:
        """Points [N, 3] in the world of the fit."""
        return (points - self.origin) * self.scale

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians in the world of the fit."""
        return Gaussians(
            self.points(gaussians.means),
            gaussians.quats,
            gaussians.scales * self.scale,
            gaussians.opacities,
            gaussians.colors,
        )

    def back(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians of the fit in the world of the capture."""
        return Gaussians(
            gaussians.means / self.scale + self.origin,
            gaussians.quats,
            gaussians.scales / self.scale,
            gaussians.opacities,
            gaussians.colors,
        )


def depths_of(views: FitViews, points: Tensor) -> Tensor:
    """Camera z of every point in every view, [V, N]."""
    return views.viewmats[:, 2, :3] @ points.T + views.viewmats[:, 2, 3:]


def from_chance(
    views: FitViews, count: int, near: float, far: float, rng: torch.Generator
) -> Gaussians:
    """Gaussians at random pixels of the views, at depths whose logarithms are uniform.

    Args:
        views: to start on.
        count: how many.
        near, far: range of the depths.
        rng: chance.
    """
    view = torch.randint(len(views), (count,), generator=rng)
    size = torch.tensor([views.width, views.height])
    pixels = torch.rand(count, 2, generator=rng) * size
    depth = near * (far / near) ** torch.rand(count, generator=rng)
    K = views.Ks[view]
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)
    rays = torch.cat([(pixels - K[:, :2, 2]) / focal, torch.ones(count, 1)], 1)
    inside = rays * depth[:, None] - views.viewmats[view, :3, 3]
    means = (views.viewmats[view, :3, :3].transpose(1, 2) @ inside[..., None])[..., 0]
    column, row = pixels.long().clamp(max=size - 1).unbind(-1)
    colors = views.images[view, row, column].float() / 255
    spacing = math.sqrt(views.width * views.height / count)
    return _round(means, depth / focal[:, 0] * spacing, colors, rng)


def from_points(views: FitViews, points: Tensor, rgb: Tensor, rng: torch.Generator) -> Gaussians:
    """One Gaussian for each point [N, 3] with its colour, uint8 [N, 3]."""
    depth = depths_of(views, points).clamp(min=1e-6).median(0).values
    scales = depth / views.Ks[:, 0, 0].mean() * _POINT_PIXELS
    return _round(points, scales, rgb.float() / 255, rng)


def start(
    views: FitViews, points: Tensor, rgb: Tensor, count: int, rng: torch.Generator
) -> Gaussians:
    """The points, and Gaussians from chance in the range of their depths up to ``count`` in all."""
    if len(points) > count:
        kept = torch.randperm(len(points), generator=rng)[:count]
        points, rgb = points[kept], rgb[kept]
    near, far = depth_range(views, points)
    parts = [from_points(views, points, rgb, rng)] if len(points) else []
    if count > len(points):
        parts.append(from_chance(views, count - len(points), near, far, rng))
    return Gaussians.cat(parts)


def depth_range(views: FitViews, points: Tensor) -> tuple[float, float]:
    """Where most points lie in front of the cameras; 0.5 to 5 where there are none."""
    depths = depths_of(views, points).reshape(-1) if len(points) else torch.zeros(0)
    depths = depths[depths > 0]
    if not len(depths):
        return 0.5, 5.0
    kept = depths[:: max(1, len(depths) // 100_000)]
    near, far = torch.quantile(kept, torch.tensor([_NEAR, _FAR])).tolist()
    return near, max(far, near * 1.01)


def _round(means: Tensor, scales: Tensor, colors: Tensor, rng: torch.Generator) -> Gaussians:
    quats = torch.randn(len(means), 4, generator=rng)
    return Gaussians(
        means,
        quats / quats.norm(dim=-1, keepdim=True),
        scales[:, None].expand(-1, 3).contiguous(),
        torch.full((len(means),), _OPACITY),
        colors,
    )
