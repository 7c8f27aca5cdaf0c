"""What an engine takes and returns."""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor


class Splats(NamedTuple):
    """The Gaussians of one scene, with activated values of which any may be NaN or infinite."""

    means: Tensor
    """[G, 3] centres in world units."""
    quats: Tensor
    """[G, 4] rotations w, x, y, z of any length."""
    scales: Tensor
    """[G, 3] standard deviations in world units."""
    opacities: Tensor
    """[G] in [0, 1]."""
    colors: Tensor
    """[G, C], any number of channels >= 1, any range; or [G, (degree + 1)^2, 3], coefficients of
    spherical harmonics (:mod:`.harmonics`)."""

    @property
    def channels(self) -> int:
        """C, of the pictures."""
        return self.colors.shape[-1]

    @property
    def sh_degree(self) -> int | None:
        """Degree of the spherical harmonics, or None where ``colors`` are colours."""
        return math.isqrt(self.colors.shape[1]) - 1 if self.colors.ndim == 3 else None


class Camera(NamedTuple):
    """One view; the fields are those of :class:`Cameras`."""

    viewmat: Tensor
    """[4, 4]."""
    K: Tensor
    """[3, 3]."""
    width: int
    height: int
    near_plane: float
    far_plane: float


class Cameras(NamedTuple):
    """V views of one scene and the size of their pictures."""

    viewmats: Tensor
    """[V, 4, 4] rigid world-to-camera transforms, OpenCV axes."""
    Ks: Tensor
    """[V, 3, 3] intrinsics in pixels."""
    width: int
    """Of the pictures, in pixels."""
    height: int
    """Of the pictures, in pixels."""
    near_plane: float
    """Smallest camera z that is rendered, in world units, > 0."""
    far_plane: float
    """Largest camera z that is rendered, in world units."""

    def split(self) -> Iterator[Camera]:
        """Yield one camera after the other."""
        for viewmat, K in zip(self.viewmats, self.Ks, strict=True):
            yield Camera(viewmat, K, *self[2:])


class Rendered(NamedTuple):
    """Pictures of V views."""

    image: Tensor
    """[..., V, H, W, C]."""
    depth: Tensor
    """[..., V, H, W] expected camera z, in world units: the mean over what was blended; 0 where
    nothing was. Times alpha it is the accumulated depth."""
    alpha: Tensor
    """[..., V, H, W] share of the background that is hidden, in [0, 0.9999]."""


class Meta(NamedTuple):
    """Where G Gaussians lie in the pictures of V views: what densification and pruning go by.

    The names and the meaning are those of gsplat's ``meta`` with ``packed=False``.
    """

    radii: Tensor
    """[V, G, 2] int32, half the width and half the height in pixels, rounded up, of the box around
    the ellipse outside which the Gaussian contributes less than 1/255; both are 0 where it is not
    rendered at all."""
    means2d: Tensor
    """[V, G, 2] centres in pixels; meaningless where ``radii`` is 0."""
    depths: Tensor
    """[V, G] camera z of the centres, in world units; meaningless where ``radii`` is 0."""


class Engine(Protocol):
    """A module that renders one scene: tensors of one dtype on one device, shapes that fit.

    ``backgrounds`` is [C], [V, C] or None for black.
    """

    def render(self, splats: Splats, cameras: Cameras, backgrounds: Tensor | None) -> Rendered:
        """Render every view."""
        ...

    def render_with_meta(
        self, splats: Splats, cameras: Cameras, backgrounds: Tensor | None
    ) -> tuple[Rendered, Meta]:
        """Render every view, and say where the Gaussians lie in it."""
        ...
