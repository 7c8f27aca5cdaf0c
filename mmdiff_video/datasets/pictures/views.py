"""Views of labelled pictures: what a training step sees, and what is scored."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmdiff_video.datasets.captions import mirrored_caption
from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.labelled import LabelledImage
from mmdiff_video.datasets.pictures.labels import Labels
from mmdiff_video.errors import InputError
from mmdiff_video.seeds import stable_seed
from mmdiff_video.skipped import Skipped


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training views differ from the pictures (in the paper, alike for all methods).

    Attributes:
        crop: (least, most) share of the largest possible crop's sides.
        mirror: chance of left and right changing places.
        jitter: brightness and contrast change by up to this share.

    Raises:
        InputError: a range or share that is none.
    """

    crop: tuple[float, float] = (0.6, 1.0)
    mirror: float = 0.5
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise InputError(f"data.augment.crop needs 0 < least <= most <= 1, not {self.crop}")
        for name in ("mirror", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.augment.{name} must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class DenseSample:
    """A view of a picture.

    Attributes:
        key: of the view; names its noise.
        image: float32 [3, H, W] in [0, 1], of a size that the backbone takes.
        target: [C, h, w], as its :class:`Labels` make it. In training of the view's size, in
            evaluation of the picture's own.
        valid: bool [h, w], where the target is known.
        caption: what the picture shows; None: nothing is said.
    """

    key: str
    image: Tensor
    target: Tensor
    valid: Tensor
    caption: str | None


@dataclass(frozen=True, kw_only=True)
class DenseBatch:
    """Samples of one size: images [B, 3, H, W], ``target`` [B, C, h, w], ``valid`` [B, h, w]."""

    keys: list[str]
    images: Tensor
    target: Tensor
    valid: Tensor
    captions: list[str | None]

    def to(self, device: torch.device | str) -> "DenseBatch":
        """Move the tensors."""
        return replace(
            self,
            images=self.images.to(device),
            target=self.target.to(device),
            valid=self.valid.to(device),
        )


def collate(samples: Sequence[DenseSample]) -> DenseBatch:
    """Stack samples of one size."""
    return DenseBatch(
        keys=[s.key for s in samples],
        images=torch.stack([s.image for s in samples]),
        target=torch.stack([s.target for s in samples]),
        valid=torch.stack([s.valid for s in samples]),
        captions=[s.caption for s in samples],
    )


class TrainingViews:
    """Augmented views of pictures, all H x W: a :class:`TrainingSet`.

    A view is a crop of the output's shape, resized, perhaps mirrored, with brightness and contrast
    changed; a function of (seed, key, view) alone. What a crop or a mirror does to the target is
    said by its labels.

    Args:
        images: with labels of one kind.
        labels: of that kind.
        height, width: of every view.
        void: label of a segmentation that is not known.
        augment: how much is changed.
        seed: of the changes.
        views: this many fixed views of each picture, so that the feature cache can serve them, the
            epochs taking turns; None: a fresh one each epoch.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        labels: Labels,
        *,
        height: int,
        width: int,
        void: int,
        augment: AugmentConfig,
        seed: int,
        views: int | None,
    ):
        self.images = list(images)
        self.labels, self.void = labels, void
        self.height, self.width = height, width
        self.augment, self.seed, self.views = augment, seed, views

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int, epoch: int) -> DenseSample | Skipped:
        """Read a view; :class:`Skipped` where the picture cannot be used."""
        source = self.images[index]
        try:
            image, target, valid = _read(source, self.labels, self.void)
        except PictureError as error:
            return Skipped(source.key, str(error))
        view = epoch if self.views is None else epoch % self.views
        rng = random.Random(stable_seed("view", self.seed, source.key, view))
        share = rng.uniform(*self.augment.crop)
        size = (self.height, self.width)
        scale = _cover(valid.shape, size) / share
        crop = []
        for length, wanted in zip(valid.shape, size, strict=True):
            kept = min(max(round(wanted / scale), 1), length)
            start = rng.randint(0, length - kept)
            crop.append(slice(start, start + kept))
        rows, columns = crop
        image = _resize(image[:, rows, columns], size)
        target, valid = (_nearest(x[..., rows, columns], size) for x in (target, valid))
        target = self.labels.enlarged(target, share)
        caption = source.caption
        if rng.random() < self.augment.mirror:
            image, valid = image.flip(-1), valid.flip(-1)
            target = self.labels.mirrored(target)
            caption = mirrored_caption(caption) if caption else caption
        brightness, contrast = (
            1 + rng.uniform(-self.augment.jitter, self.augment.jitter) for _ in range(2)
        )
        middle = image.mean()
        image = ((image - middle) * contrast + middle) * brightness
        return DenseSample(
            key=f"{source.key}/view{view}",
            image=image.clamp(0, 1),
            target=target,
            valid=valid,
            caption=caption,
        )


class EvaluationViews:
    """Whole pictures, resized to cover H x W, each side to the nearest size the backbone takes.

    That is the scale of an unaugmented training view. The target keeps the picture's own size.

    Args:
        images: with labels of one kind.
        labels: of that kind.
        height, width: of training views.
        void: label of a segmentation that is not known.
        unit: sides are multiples of this many pixels.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        labels: Labels,
        *,
        height: int,
        width: int,
        void: int,
        unit: int,
    ):
        self.images = list(images)
        self.labels, self.void = labels, void
        self.height, self.width, self.unit = height, width, unit

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> DenseSample | Skipped:
        source = self.images[index]
        try:
            image, target, valid = _read(source, self.labels, self.void)
        except PictureError as error:
            return Skipped(source.key, str(error))
        return DenseSample(
            key=source.key,
            image=resize_to_cover(image, self.height, self.width, self.unit),
            target=target,
            valid=valid,
            caption=source.caption,
        )


def resize_to_cover(image: Tensor, height: int, width: int, unit: int) -> Tensor:
    """Resize a whole picture [..., 3, h, w] to cover height x width in multiples of ``unit``."""
    scale = _cover(image.shape[-2:], (height, width))
    rows, columns = (max(round(side * scale / unit), 1) * unit for side in image.shape[-2:])
    return _resize(image, (rows, columns))


def _cover(size: Sequence[int], wanted: tuple[int, int]) -> float:
    """By how much a picture must be enlarged to cover the wanted size."""
    return max(w / s for s, w in zip(size, wanted, strict=True))


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    rows = image if image.ndim == 4 else image[None]
    resized = F.interpolate(rows, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1).view(*image.shape[:-2], *size)


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [..., h, w] without mixing neighbours: two classes, or unknown, have no mean."""
    maps = values.reshape(1, -1, *values.shape[-2:]).float()
    resized = F.interpolate(maps, size, mode="nearest-exact")
    return resized.view(*values.shape[:-2], *size).to(values.dtype)


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 [H, W, 3] into float32 [3, H, W] in [0, 1]."""
    return to_tensors(image[None])[0]


def to_tensors(images: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 [N, H, W, 3] into float32 [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def _read(source: LabelledImage, labels: Labels, void: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read picture [3, h, w], target [C, h, w] and where it is known, [h, w]."""
    image, label = source.read()
    return to_tensor(image), *labels.target(label, void)
