"""What is fitted: pictures of one size with their cameras."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recon.cameras import invert_rigid


@dataclass(frozen=True, eq=False)
class FitViews:
    """V pictures of a scene.

    Attributes:
        images: uint8 [V, H, W, 3].
        viewmats: [V, 4, 4] float32, world-to-camera, OpenCV axes.
        Ks: [V, 3, 3] float32, in pixels of ``images``.
        masks: bool [V, H, W], what belongs to the scene; None: everything.

    Raises:
        ValueError: shapes that do not fit, or no picture.
    """

    images: Tensor
    viewmats: Tensor
    Ks: Tensor
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        views = len(self.images)
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 [V, H, W, 3], not {tuple(self.images.shape)}")
        if not views:
            raise ValueError("a fit needs at least one picture")
        if self.viewmats.shape != (views, 4, 4) or self.Ks.shape != (views, 3, 3):
            raise ValueError(
                f"{views} pictures need viewmats [{views}, 4, 4] and Ks [{views}, 3, 3], not"
                f" {tuple(self.viewmats.shape)} and {tuple(self.Ks.shape)}"
            )
        if self.masks is not None and self.masks.shape != self.images.shape[:3]:
            raise ValueError(
                f"masks are {tuple(self.masks.shape)}, the pictures {tuple(self.images.shape[:3])}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def height(self) -> int:
        """Of the pictures, in pixels."""
        return self.images.shape[1]

    @property
    def width(self) -> int:
        """Of the pictures, in pixels."""
        return self.images.shape[2]

    def __getitem__(self, index: slice | list[int]) -> "FitViews":
        """Some of the views."""
        return FitViews(
            self.images[index],
            self.viewmats[index],
            self.Ks[index],
            None if self.masks is None else self.masks[index],
        )

    def to(self, device: torch.device | str) -> "FitViews":
        """The same on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        return FitViews(self.images.to(device), self.viewmats.to(device), self.Ks.to(device), masks)

    def split(self, every: int = 8) -> tuple["FitViews", "FitViews"]:
        """Training views, and those held out: each ``every``-th from the first on."""
        held_out = range(0, len(self), every)
        rest = [i for i in range(len(self)) if i % every]
        return self[rest], self[list(held_out)]

    def halved(self) -> "FitViews":
        """The same at half the resolution, by averages of 2 x 2 pixels; odd rows are cut off."""
        height, width = self.height // 2, self.width // 2
        cut = self.images[:, : 2 * height, : 2 * width].movedim(-1, 1).float()
        images = torch.nn.functional.avg_pool2d(cut, 2).round().to(torch.uint8).movedim(1, -1)
        Ks = self.Ks.clone()
        Ks[:, :2] /= 2
        masks = None
        if self.masks is not None:
            kept = self.masks[:, : 2 * height, : 2 * width].float()[:, None]
            masks = torch.nn.functional.avg_pool2d(kept, 2)[:, 0] == 1
        return FitViews(images.contiguous(), self.viewmats, Ks, masks)

    def centres(self) -> Tensor:
        """Centres of the cameras [V, 3]."""
        return invert_rigid(self.viewmats)[:, :3, 3]
