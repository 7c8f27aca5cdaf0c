"""Lenses: pinhole intrinsics with the radial and tangential distortion of OpenCV's model.

One model serves every capture that is read: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL and
OPENCV of COLMAP, and the ``k1 k2 p1 p2`` of a transforms.json, are this one with some coefficients
at 0. Conventions are those of ``recon.cameras``: pixel (row, column) has its centre at
(column + 0.5, row + 0.5).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_STEPS = 20
"""Of the fixed-point search for the ray of a pixel: enough for 1e-9 on lenses of phones."""


@dataclass(frozen=True, kw_only=True)
class Lens:
    """Intrinsics of one camera.

    Attributes:
        width, height: of its pictures, in pixels.
        fx, fy: focal lengths in pixels.
        cx, cy: principal point in pixels from the top-left corner.
        k1, k2: radial distortion.
        p1, p2: tangential distortion.

    Raises:
        ValueError: a size or focal length that is not positive, or a value that is not finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    def __post_init__(self) -> None:
        values = [self.fx, self.fy, self.cx, self.cy, *self.distortion]
        if not torch.tensor(values, dtype=torch.float64).isfinite().all():
            raise ValueError("an intrinsic parameter is NaN or infinite")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"pictures of {self.width}x{self.height} pixels do not exist")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"the focal length {min(self.fx, self.fy):g} is not positive")

    @property
    def distortion(self) -> tuple[float, float, float, float]:
        """k1, k2, p1, p2."""
        return self.k1, self.k2, self.p1, self.p2

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight."""
        return not any(self.distortion)

    def K(self) -> Tensor:
        """Pixel intrinsics [3, 3], float64, without the distortion."""
        return torch.tensor(
            [[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=torch.float64
        )

    def pinhole(self) -> "Lens":
        """The same camera without distortion: what :func:`undistort` makes pictures of."""
        return replace(self, k1=0.0, k2=0.0, p1=0.0, p2=0.0)

    def resized(self, width: int, height: int) -> "Lens":
        """The lens of the same pictures at another size."""
        x, y = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
        )


def distort(rays: Tensor, lens: Lens) -> Tensor:
    """Where rays meet the picture.

    Args:
        rays: [..., 2], x / z and y / z in camera axes.
        lens: of the camera.

    Returns:
        pixel positions [..., 2].
    """
    x, y = (rays + _shift(rays, lens)).unbind(-1)
    return torch.stack([x * lens.fx + lens.cx, y * lens.fy + lens.cy], -1)


def undistort_points(pixels: Tensor, lens: Lens) -> Tensor:
    """Rays of pixel positions [..., 2]: the inverse of :func:`distort`, by fixed-point steps."""
    offset, focal = pixels.new_tensor([lens.cx, lens.cy]), pixels.new_tensor([lens.fx, lens.fy])
    wanted = (pixels - offset) / focal
    rays = wanted
    for _ in range(0 if lens.is_pinhole else _STEPS):
        rays = wanted - _shift(rays, lens)
    return rays


def undistort(pictures: Tensor, lens: Lens) -> Tensor:
    """Draw pictures [..., C, H, W] of a lens as its :meth:`Lens.pinhole` would have taken them.

    Bilinear; what the lens did not see is 0.

    Raises:
        ValueError: pictures of another size than the lens's.
    """
    if pictures.shape[-2:] != (lens.height, lens.width):
        raise ValueError(
            f"the pictures are {pictures.shape[-1]}x{pictures.shape[-2]}, the lens makes"
            f" {lens.width}x{lens.height}"
        )
    if lens.is_pinhole:
        return pictures
    columns = torch.arange(lens.width, dtype=torch.float64) + 0.5
    rows = torch.arange(lens.height, dtype=torch.float64) + 0.5
    x = ((columns - lens.cx) / lens.fx).expand(lens.height, -1)
    y = ((rows - lens.cy) / lens.fy)[:, None].expand(-1, lens.width)
    seen = distort(torch.stack([x, y], -1), lens)
    size = seen.new_tensor([lens.width, lens.height])
    # a lens may fold the far corners back into the picture: what folds is not seen
    unfolded = (undistort_points(seen, lens) - torch.stack([x, y], -1)).norm(dim=-1) < 1e-3
    grid = torch.where(unfolded[..., None], seen / size * 2 - 1, 2.0)
    flat = pictures.reshape(1, -1, lens.height, lens.width)
    drawn = torch.nn.functional.grid_sample(
        flat, grid[None].to(flat), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return drawn.reshape(pictures.shape)


def _shift(rays: Tensor, lens: Lens) -> Tensor:
    """How far the lens moves rays [..., 2] (OpenCV's formula)."""
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    radial = r2 * (lens.k1 + r2 * lens.k2)
    return torch.stack(
        [
            x * radial + 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x),
            y * radial + 2 * lens.p2 * x * y + lens.p1 * (r2 + 2 * y * y),
        ],
        -1,
    )
