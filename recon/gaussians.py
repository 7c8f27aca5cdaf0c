"""The Gaussians container: activated values in world units."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from recon.cameras import compose
from recon.rasterize.harmonics import MAX_DEGREE, num_bases, rotate
from recon.rotations import multiply_quats, quats_from_matrices


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians, with any leading batch dimensions.

    All values are activated: what a renderer takes, not what an optimiser or a PLY file holds.

    Raises:
        ValueError: shapes that do not fit each other.
    """

    means: Tensor
    """[..., G, 3] centres in world units."""
    quats: Tensor
    """[..., G, 4] rotations as quaternions w, x, y, z; unit length is not required."""
    scales: Tensor
    """[..., G, 3] standard deviations along the rotated axes, in world units."""
    opacities: Tensor
    """[..., G] in [0, 1]."""
    colors: Tensor
    """[..., G, 3] RGB in [0, 1], the same from every direction; or [..., G, (degree + 1)^2, 3],
    coefficients of spherical harmonics of degree 0 to 3, as ``sh_degree`` of
    :func:`recon.rasterize` has them."""

    def __post_init__(self):
        leading = self.opacities.shape
        for name, width in (("means", 3), ("quats", 4), ("scales", 3), ("colors", 3)):
            shape = getattr(self, name).shape
            coefficients = (
                shape[-2:-1] if name == "colors" and len(shape) > len(leading) + 1 else ()
            )
            if len(leading) < 1 or shape != (*leading, *coefficients, width):
                raise ValueError(
                    f"{name} {tuple(shape)} does not fit opacities {tuple(leading)}: expected "
                    f"[..., G, {width}] and [..., G]"
                )
            if coefficients and coefficients[0] not in map(num_bases, range(MAX_DEGREE + 1)):
                raise ValueError(
                    f"colors {tuple(shape)} hold {coefficients[0]} coefficients of spherical "
                    "harmonics: degrees 0 to 3 have 1, 4, 9 and 16"
                )

    @property
    def num(self) -> int:
        """Number of Gaussians G in each scene."""
        return self.opacities.shape[-1]

    @property
    def sh_degree(self) -> int | None:
        """What :func:`recon.rasterize` needs beside ``colors``: None for plain ones."""
        if self.colors.ndim == self.opacities.ndim + 1:
            return None
        return math.isqrt(self.colors.shape[-2]) - 1

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast every field, as :meth:`torch.Tensor.to`."""
        return self._map(lambda t: t.to(*args, **kwargs))

    def detach(self) -> Self:
        """Cut every field from the autograd graph."""
        return self._map(Tensor.detach)

    def __getitem__(self, index: Any) -> Self:
        """Index every field from the first dimension on (no ``...``).

        ``gaussians[0]`` is the first scene of a batch, ``gaussians[mask]`` the selected Gaussians
        of one scene.
        """
        return self._map(lambda t: t[index])

    def transform(self, T: Tensor) -> Self:
        """Move by rigid transforms new_from_old [..., 4, 4], one for each scene of the batch."""
        rotation, translation = T[..., None, :3, :3], T[..., None, :3, 3]
        means = compose(rotation, self.means[..., None])[..., 0] + translation
        quats = multiply_quats(quats_from_matrices(T[..., :3, :3])[..., None, :], self.quats)
        colors = self.colors if self.sh_degree is None else rotate(self.colors, T[..., :3, :3])
        return type(self)(means, quats, self.scales, self.opacities, colors)

    @classmethod
    def cat(cls, parts: Iterable[Self]) -> Self:
        """Join several sets of Gaussians of equal batch shape into one.

        Raises:
            ValueError: their colours are of different kinds.
        """
        parts = list(parts)
        kinds = {part.sh_degree for part in parts}
        if len(kinds) > 1:
            raise ValueError(
                "Gaussians whose colors have different degrees of spherical harmonics cannot be "
                f"joined: {', '.join(sorted(map(str, kinds)))}"
            )
        axis = parts[0].opacities.ndim - 1
        return cls(*(torch.cat([getattr(p, f.name) for p in parts], axis) for f in fields(cls)))

    def _map(self, function: Any) -> Self:
        return type(self)(*(function(getattr(self, f.name)) for f in fields(self)))
