"""What a COLMAP model holds: cameras, images with their poses, points.

A :class:`Model` holds exactly what the files say, so that text, binary and ours are one thing.
COLMAP's conventions are ours: world-to-camera, OpenCV axes, the first pixel's centre at 0.5. The
layout of the files is documented at https://colmap.github.io/format.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.io.format_error import FormatError
from recon.lenses import Lens
from recon.rotations import matrices_from_quats

MODELS: Mapping[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}
"""Camera model -> its parameters, in the order of the files. The place is the number of binary
files. Other models are refused by name."""

OTHER_MODELS: Mapping[str, int] = {
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
}
"""Models that are not read -> how many parameters they have; numbered on from :data:`MODELS`."""

NO_POINT = -1
"""Point of a keypoint that was not triangulated."""


@dataclass(frozen=True)
class ColmapCamera:
    """A camera as the files have it.

    Attributes:
        model: a key of :data:`MODELS`.
        width, height: of its pictures, in pixels.
        params: in the order of the model.

    Raises:
        FormatError: a model that is not read, or another number of parameters.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise FormatError(
                f"cameras of the model {self.model} are not read; undistort the project first"
                " (`colmap image_undistorter`), or use one of " + ", ".join(MODELS)
            )
        if len(self.params) != len(MODELS[self.model]):
            raise FormatError(
                f"a camera of the model {self.model} has {len(MODELS[self.model])} parameters, not"
                f" {len(self.params)}"
            )

    @property
    def lens(self) -> Lens:
        """The same as ours.

        Raises:
            FormatError: values that make no camera.
        """
        named = dict(zip(MODELS[self.model], self.params, strict=True))
        if "f" in named:
            named["fx"] = named["fy"] = named.pop("f")
        try:
            return Lens(width=self.width, height=self.height, **named)
        except ValueError as error:
            raise FormatError(f"a camera cannot be: {error}") from None

    @classmethod
    def of(cls, lens: Lens) -> "ColmapCamera":
        """Write a lens as PINHOLE, or OPENCV where it distorts."""
        model = "PINHOLE" if lens.is_pinhole else "OPENCV"
        params = tuple(float(getattr(lens, name)) for name in MODELS[model])
        return cls(model, lens.width, lens.height, params)


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """A registered picture.

    Attributes:
        name: path of its file below the project's ``images``.
        camera: key of ``Model.cameras``.
        quat: [4] w, x, y, z, and
        translation: [3], world-to-camera.
        keypoints: [K, 2] float64, in pixels.
        points: [K] int64, keys of the points, :data:`NO_POINT` for none.
    """

    name: str
    camera: int
    quat: NDArray[np.float64]
    translation: NDArray[np.float64]
    keypoints: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    points: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def viewmat(self) -> Tensor:
        """World-to-camera [4, 4], float64."""
        viewmat = torch.eye(4, dtype=torch.float64)
        quat = torch.from_numpy(self.quat)
        viewmat[:3, :3] = matrices_from_quats(quat / quat.norm())
        viewmat[:3, 3] = torch.from_numpy(self.translation)
        return viewmat


@dataclass(frozen=True, eq=False)
class Points:
    """Triangulated points, N of them.

    Attributes:
        ids: [N] int64.
        xyz: [N, 3] float64, world units.
        rgb: [N, 3] uint8.
        errors: [N] float64, mean reprojection error in pixels; -1 where it is not known.
        tracks: of each, [L, 2] int64: keys of images, and places among their keypoints.
    """

    ids: NDArray[np.int64]
    xyz: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    errors: NDArray[np.float64]
    tracks: list[NDArray[np.int64]]

    @classmethod
    def none(cls) -> "Points":
        """No points at all."""
        return cls(
            np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), []
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Model:
    """A COLMAP model.

    Attributes:
        cameras, images: by their ids.
        points: that were triangulated.
    """

    cameras: Mapping[int, ColmapCamera]
    images: Mapping[int, ColmapImage]
    points: Points
