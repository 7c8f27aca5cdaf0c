"""Lenses: pinhole intrinsics with the radial and tangential distortion of OpenCV's model.

One model serves every capture that is read: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL and
OPENCV of COLMAP, and the ``k1 k2 p1 p2`` of a transforms.json, are this one with some coefficients
at 0. Conventions are those of ``recon.cameras``: pixel (row, column) has its centre at
(column + 0.5, row + 0.5).
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

_STEPS = 20
"""Of the fixed-point search for the ray of a pixel: enough for 1e-9 on lenses of phones."""

_NEGLIGIBLE = 0.1
"""Pixels that a lens may bend its picture by and pass for a pinhole."""

_TOLERANCE = 0.5
"""Pixels beyond the edge of a picture that repeat the last one instead of being blank."""

_MOST_ZOOM = 4.0


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


def undistort(
    pictures: Tensor, lens: Lens, flat: Lens | None = None, *, mode: str = "bilinear"
) -> Tensor:
    """Draw pictures [..., C, H, W] of a lens as a pinhole camera would have taken them.

    What the lens did not see is 0.

    Args:
        pictures: of the lens.
        lens: that took them.
        flat: the pinhole camera, of pictures of the same size; None: :meth:`Lens.pinhole`.
        mode: ``bilinear``, or ``bicubic``, which is sharper and may leave the range of values.

    Raises:
        ValueError: pictures of another size than the lens's.
    """
    if pictures.shape[-2:] != (lens.height, lens.width):
        raise ValueError(
            f"the pictures are {pictures.shape[-1]}x{pictures.shape[-2]}, the lens makes"
            f" {lens.width}x{lens.height}"
        )
    flat = flat or lens.pinhole()
    if flat == lens:
        return pictures
    grid, is_seen = _grid(lens, flat)
    stacked = pictures.reshape(1, -1, lens.height, lens.width)
    drawn = torch.nn.functional.grid_sample(
        stacked, grid[None].to(stacked), mode=mode, padding_mode="border", align_corners=False
    )
    return (drawn * is_seen.to(drawn)).reshape(pictures.shape)


@lru_cache(maxsize=1)  # the pictures of a capture have one lens after the other, mostly the same
def _grid(lens: Lens, flat: Lens) -> tuple[Tensor, Tensor]:
    """Where each pixel is drawn from, [H, W, 2] from -1 to 1, and whether the lens saw it."""
    columns = torch.arange(lens.width, dtype=torch.float64) + 0.5
    rows = torch.arange(lens.height, dtype=torch.float64) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    seen, is_seen = _source(pixels, lens, flat)
    return seen / seen.new_tensor([lens.width, lens.height]) * 2 - 1, is_seen


def straightened(lens: Lens) -> Lens:
    """A lens that bends nothing by more than a tenth of a pixel, as a pinhole; others as they are.

    To draw its pictures anew would blur them for nothing.
    """
    border = _border(lens)
    bent = (distort(undistort_points(border, lens.pinhole()), lens) - border).norm(dim=-1)
    return lens.pinhole() if bent.max() < _NEGLIGIBLE else lens


def without_blanks(lens: Lens) -> Lens:
    """The widest pinhole camera, no wider than :meth:`Lens.pinhole`, that sees what the lens saw.

    Its pictures have the size of the lens's, and :func:`undistort` leaves no pixel of them blank;
    where no zoom up to 4 does it, as with a lens that folds, some stay blank.
    """
    if lens.is_pinhole:
        return lens
    border = _border(lens)

    def zoomed(zoom: float) -> Lens:
        return replace(lens.pinhole(), fx=lens.fx * zoom, fy=lens.fy * zoom)

    low, high = 1.0, _MOST_ZOOM
    if _source(border, lens, zoomed(low))[1].all():
        return zoomed(low)
    while high - low > 1e-4:
        middle = (low + high) / 2
        if _source(border, lens, zoomed(middle))[1].all():
            high = middle
        else:
            low = middle
    return zoomed(high)


def _source(pixels: Tensor, lens: Lens, flat: Lens) -> tuple[Tensor, Tensor]:
    """Where in the lens's picture lies what pixels [..., 2] of the flat one show, and whether."""
    rays = undistort_points(pixels, flat)
    seen = distort(rays, lens)
    size = seen.new_tensor([lens.width, lens.height])
    inside = ((seen > -_TOLERANCE) & (seen < size + _TOLERANCE)).all(-1)
    # a lens may fold the far corners back into the picture: what folds is not seen
    return seen, inside & (rays.norm(dim=-1) < _fold(lens))


def _fold(lens: Lens) -> float:
    """Radius on the plane z = 1 from which the lens draws what is further out further in."""
    if lens.k1 >= 0 and lens.k2 >= 0:
        return math.inf
    radii = torch.linspace(0, 10, 10_001, dtype=torch.float64)
    slope = 1 + 3 * lens.k1 * radii**2 + 5 * lens.k2 * radii**4
    folded = radii[slope <= 0]
    return float(folded[0]) if len(folded) else math.inf


def _border(lens: Lens) -> Tensor:
    """Points [P, 2] all round a picture, in pixels."""
    along = torch.linspace(0, 1, 65, dtype=torch.float64)
    zero, one = torch.zeros_like(along), torch.ones_like(along)
    sides = [(along, zero), (along, one), (zero, along), (one, along)]
    places = torch.cat([torch.stack(side, -1) for side in sides])
    return places * places.new_tensor([lens.width, lens.height])


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
