from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.labelled import LabelledImage
from mmdiff_video.datasets.pictures.views import (
    AugmentConfig,
    DenseSample,
    EvaluationViews,
    TrainingViews,
    collate,
    resize_to_cover,
)
from mmdiff_video.skipped import Skipped
from mmdiff_video.tasks import labels_of

PLAIN = AugmentConfig(crop=(1.0, 1.0), mirror=0.0, jitter=0.0)


@dataclass(frozen=True)
class Ramp:
    """A picture whose red is its column and whose label is ``value`` there; 0 in row 0."""

    height: int = 30
    width: int = 50
    value: float = 2.0

    def read(self):
        columns = np.linspace(0, 255, self.width).round().astype(np.uint8)
        image = np.zeros((self.height, self.width, 3), np.uint8)
        image[..., 0] = columns
        label = np.full((self.height, self.width), self.value, np.float32)
        label[0] = 0
        return image, label[None]


@dataclass(frozen=True)
class Broken:
    def read(self):
        raise PictureError("cut short")


def views(images, **changes) -> TrainingViews:
    settings = {
        "labels": labels_of("depth"),
        "height": 16,
        "width": 32,
        "void": 255,
        "augment": AugmentConfig(),
        "seed": 0,
        "views": None,
    }
    return TrainingViews(images, **(settings | changes))


IMAGES = [
    LabelledImage(key="a", pair=Ramp(), caption="a ramp"),
    LabelledImage(key="b", pair=Broken()),
]


def test_a_view_is_a_function_of_its_number():
    first, again = (views(IMAGES).sample(0, 3) for _ in range(2))
    other = views(IMAGES).sample(0, 4)
    assert first.image.shape == (3, 16, 32)
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)
    assert (first.key, other.key, first.caption) == ("a/view3", "a/view4", "a ramp")


def test_fixed_views_take_turns():
    two = views(IMAGES, views=2)
    assert torch.equal(two.sample(0, 1).image, two.sample(0, 5).image)
    assert two.sample(0, 1).key == two.sample(0, 5).key != two.sample(0, 2).key


def test_broken_pictures_are_skipped_with_their_reason():
    assert views(IMAGES).sample(1, 0) == Skipped("b", "cut short")
    scored = EvaluationViews(IMAGES, labels_of("depth"), height=16, width=32, void=255, unit=16)
    assert scored[1] == Skipped("b", "cut short")


def test_depth_shrinks_as_much_as_a_crop_enlarges():
    whole = views(IMAGES, augment=PLAIN).sample(0, 0)
    half = views(IMAGES, augment=AugmentConfig(crop=(0.5, 0.5), mirror=0.0, jitter=0.0))
    sample = half.sample(0, 0)
    assert whole.target[0][whole.valid].unique().tolist() == [2.0]
    assert sample.target[0][sample.valid].unique().tolist() == [1.0]


def test_picture_and_truth_are_cropped_and_mirrored_together():
    @dataclass(frozen=True)
    class Columns(Ramp):
        def read(self):
            image, _ = super().read()
            return image, image[None, ..., 0].astype(np.float32) / 100 + 1

    images = [LabelledImage(key="a", pair=Columns())]
    augment = AugmentConfig(crop=(0.4, 1.0), mirror=0.5, jitter=0.0)
    mirrored = set()
    for epoch in range(12):
        sample = views(images, augment=augment).sample(0, epoch)
        target = sample.target[0]
        share = target / target.max()
        red = sample.image[0]
        slope = torch.sign(share[8, -1] - share[8, 0])
        assert slope == torch.sign(red[8, -1] - red[8, 0])
        mirrored.add(float(slope))
        # depth = share * (1 + 2.55 * red) up to half a pixel of resizing
        ratio = target / (1 + 2.55 * red)
        assert ratio.std() < 0.02
    assert mirrored == {-1.0, 1.0}


def test_a_mirrored_view_has_a_mirrored_caption():
    images = [LabelledImage(key="a", pair=Ramp(), caption="The left is dark.")]
    seen = set()
    for epoch in range(12):
        sample = views(images, augment=AugmentConfig(mirror=0.5)).sample(0, epoch)
        dark_on_the_left = bool(sample.image[0, 8, 0] < sample.image[0, 8, -1])
        seen.add((dark_on_the_left, sample.caption))
    assert seen == {(True, "The left is dark."), (False, "The right is dark.")}


def test_jitter_changes_the_picture_alone():
    still = views(IMAGES, augment=PLAIN).sample(0, 0)
    jittered = views(IMAGES, augment=AugmentConfig(crop=(1, 1), mirror=0, jitter=0.5))
    sample = jittered.sample(0, 0)
    assert not torch.allclose(sample.image, still.image)
    assert torch.equal(sample.target, still.target)
    assert 0 <= sample.image.min() <= sample.image.max() <= 1


def test_scored_pictures_keep_the_truths_size_and_the_scale_of_training():
    scored = EvaluationViews(IMAGES, labels_of("depth"), height=16, width=32, void=255, unit=16)
    sample = scored[0]
    assert isinstance(sample, DenseSample)
    assert sample.target.shape == (1, 30, 50)
    assert sample.valid[1:].all()
    assert not sample.valid[0].any()
    # 30 x 50 covers 16 x 32 at a scale of 0.64: 19 x 32 pixels, so 16 x 32
    assert sample.image.shape == (3, 16, 32)


@pytest.mark.parametrize("size", [(30, 50), (200, 20), (17, 400), (64, 64)])
def test_fitting_covers_the_size_in_whole_units(size):
    fitted = resize_to_cover(torch.rand(2, 3, *size), 32, 48, 16)
    assert all(side % 16 == 0 for side in fitted.shape[2:])
    assert fitted.shape[2] >= 32 - 8
    assert fitted.shape[3] >= 48 - 8
    enlarged = [new / old for new, old in zip(fitted.shape[2:], size, strict=True)]
    assert abs(enlarged[0] / enlarged[1] - 1) < 0.5


def test_void_and_unknown_depth_are_not_valid():
    @dataclass(frozen=True)
    class Odd:
        label: np.ndarray

        def read(self):
            return np.zeros((*self.label.shape, 3), np.uint8), self.label[None]

    def sample(task, label):
        images = [LabelledImage(key="a", pair=Odd(label))]
        return EvaluationViews(images, labels_of(task), height=16, width=16, void=9, unit=16)[0]

    labels = sample("seg", np.array([[0, 9], [3, 255]], np.uint8))
    assert labels.valid.tolist() == [[True, False], [True, True]]
    assert labels.target.dtype == torch.int64
    depth = sample("depth", np.array([[0, np.inf], [np.nan, 2]], np.float32))
    assert depth.valid.tolist() == [[False, False], [False, True]]
    assert depth.target.tolist() == [[[0, 0], [0, 2]]]


def test_batches_stack_and_keep_keys():
    batch = collate([views(IMAGES).sample(0, e) for e in range(3)])
    assert batch.images.shape == (3, 3, 16, 32)
    assert batch.target.shape == (3, 1, 16, 32)
    assert batch.valid.shape == (3, 16, 32)
    assert batch.keys == ["a/view0", "a/view1", "a/view2"]
