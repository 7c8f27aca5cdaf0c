"""The Gaussians container: activated values in world units."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from recon.cameras import compose
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
    """[..., G, 3] RGB in [0, 1], the same from every direction."""

    def __post_init__(self):
        leading = self.opacities.shape
        for name, width in (("means", 3), ("quats", 4), ("scales", 3), ("colors", 3)):
            shape = getattr(self, name).shape
            if len(leading) < 1 or shape != (*leading, width):
                raise ValueError(
                    f"{name} {tuple(shape)} does not fit opacities {tuple(leading)}: expected "
                    f"[..., G, {width}] and [..., G]"
                )

    @property
    def num(self) -> int:
        """Number of Gaussians G in each scene."""
        return self.opacities.shape[-1]

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
        return type(self)(means, quats, self.scales, self.opacities, self.colors)

    @classmethod
    def cat(cls, parts: Iterable[Self]) -> Self:
        """Join several sets of Gaussians of equal batch shape into one."""
        parts = list(parts)
        return cls(
            *(
                torch.cat([getattr(p, f.name) for p in parts], -1 if f.name == "opacities" else -2)
                for f in fields(cls)
            )
        )

    def _map(self, function: Any) -> Self:
        return type(self)(*(function(getattr(self, f.name)) for f in fields(self)))
