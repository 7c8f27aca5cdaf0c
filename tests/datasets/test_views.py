import dataclasses
import pickle

import numpy as np
import pytest
import torch

from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.sampling import FrameChoice, FrameChoices, even_choices
from mmdiff_video.datasets.clips.views import (
    EvaluationDataset,
    NVSSample,
    PosedVideoDataset,
    collate,
    make_sample,
    resize_crop,
)
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped
from recon.cameras import Ks_from_normalized, project

SIZE = {"height": 32, "width": 48}
CARD = load_card("rooms")
BY_BASELINE = dataclasses.replace(CARD, world_scale="unit_baseline")


@pytest.fixture(scope="module")
def clips(rooms) -> list[PosedClip]:
    return load_re10k(rooms, "train").clips


def dataset(clips, **changes) -> PosedVideoDataset:
    return PosedVideoDataset(clips, CARD, **{"frames": 5, "targets": 3, **SIZE, **changes})


def assert_same(a: NVSSample, b: NVSSample) -> None:
    assert (a.key, a.clip_key) == (b.key, b.clip_key)
    for field in dataclasses.fields(NVSSample):
        if field.type is torch.Tensor:
            assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def test_a_sample_has_the_documented_shapes_and_ranges(clips):
    sample = dataset(clips).sample(0, 0)
    assert isinstance(sample, NVSSample)
    assert sample.video.shape == (3, 5, 32, 48)
    assert sample.target_images.shape == (3, 3, 32, 48)
    assert sample.input_viewmats.shape == (5, 4, 4)
    assert sample.input_Ks.shape == (5, 3, 3)
    assert sample.target_viewmats.shape == (3, 4, 4)
    assert sample.target_Ks.shape == (3, 3, 3)
    for field in dataclasses.fields(NVSSample):
        if field.type is torch.Tensor:
            indices = field.name.endswith("indices")
            assert getattr(sample, field.name).dtype == (torch.int64 if indices else torch.float32)
    for pictures in (sample.video, sample.target_images):
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        assert pictures.std() > 0.05


def test_pictures_belong_to_their_frames(clips):
    sample = dataset(clips).sample(1, 0)
    raw = resize_crop(clips[1].read(range(clips[1].num_frames)), **SIZE)
    assert torch.equal(sample.video, raw[sample.input_indices].transpose(0, 1))
    assert torch.equal(sample.target_images, raw[sample.target_indices])


def test_the_world_is_the_first_input_camera_and_keeps_all_distances(clips):
    sample = dataset(clips).sample(0, 0)
    assert torch.equal(sample.input_viewmats[0], torch.eye(4))
    assert float(sample.world_scale) == 1
    indices = torch.cat([sample.input_indices, sample.target_indices])
    old = clips[0].centres()[indices]
    new_poses = torch.cat([sample.input_viewmats, sample.target_viewmats]).inverse()
    new = new_poses[:, :3, 3].double()
    torch.testing.assert_close(torch.cdist(new, new), torch.cdist(old, old), atol=1e-5, rtol=0)


def test_unit_baseline_puts_first_and_last_input_one_apart(clips):
    for clip in clips:
        for inputs in ((0, 8, 16), (3, 9, 15)):
            choice = FrameChoice(inputs, (5, 20))
            sample = make_sample(clip, choice, BY_BASELINE, **SIZE)
            last = sample.input_viewmats[-1].inverse()[:3, 3]
            torch.testing.assert_close(last.norm(), torch.tensor(1.0), atol=1e-5, rtol=0)
            metric = make_sample(clip, choice, CARD, **SIZE)
            torch.testing.assert_close(
                sample.target_viewmats[:, :3, 3],
                metric.target_viewmats[:, :3, 3] * sample.world_scale,
            )
            assert torch.equal(sample.target_viewmats[:, :3, :3], metric.target_viewmats[:, :3, :3])


@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 48), (40, 24), (24, 80), (96, 128)])
def test_intrinsics_follow_the_pictures(height, width):
    """A dot drawn where a point projects stays where the sample's own camera projects it."""
    canvas = np.zeros((2, 90, 160, 3), dtype=np.uint8)
    intrinsics = torch.tensor([[0.7, 1.2, 0.52, 0.47]]).double().repeat(2, 1)
    viewmats = torch.eye(4).double().repeat(2, 1, 1)
    viewmats[1, 0, 3] = 0.1
    point = torch.tensor([[-0.12, 0.08, 1.5]]).double()
    pixels, _ = project(point, viewmats, Ks_from_normalized(intrinsics, 160, 90))
    rows, columns = np.mgrid[:90, :160] + 0.5
    for picture, (x, y) in zip(canvas, pixels[:, 0].tolist(), strict=True):
        spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
        picture[:] = spot[..., None].round()

    class Canvas:
        def read(self, indices):
            return canvas[list(indices)]

    clip = PosedClip(
        key="dot", intrinsics=intrinsics, viewmats=viewmats, height=90, width=160, frames=Canvas()
    )
    sample = make_sample(clip, FrameChoice((0,), (1,)), CARD, height=height, width=width)
    Ks = torch.cat([sample.input_Ks, sample.target_Ks])
    poses = torch.cat([sample.input_viewmats, sample.target_viewmats])
    expected, _ = project(point.float(), poses, Ks)
    pictures = torch.stack([sample.video[0, 0], sample.target_images[0, 0]])
    mass = pictures / pictures.sum((1, 2), keepdim=True)
    x = (mass.sum(1) * (torch.arange(width) + 0.5)).sum(1)
    y = (mass.sum(2) * (torch.arange(height) + 0.5)).sum(1)
    torch.testing.assert_close(torch.stack([x, y], -1), expected[:, 0], atol=0.1, rtol=0)


def test_fixed_samplings_repeat_and_differ_from_each_other(clips):
    fixed = dataset(clips, samplings_per_clip=4)
    assert len(fixed) == 4 * len(clips)
    before = [fixed.sample(i, 0).key for i in range(len(fixed))]
    assert [fixed.sample(i, 7).key for i in range(len(fixed))] == before
    assert len(set(before)) > 2 * len(clips)


def test_fresh_samplings_change_with_the_epoch_and_the_seed(clips):
    fresh = dataset(clips)
    assert len(fresh) == len(clips)

    def frames(samples: PosedVideoDataset, epoch: int) -> list[list[int]]:
        read = [samples.sample(i, epoch) for i in range(len(samples))]
        return [[*s.input_indices.tolist(), *s.target_indices.tolist()] for s in read]

    first = frames(fresh, 0)
    assert frames(fresh, 1) != first
    assert frames(fresh, 0) == first
    assert frames(dataset(clips, seed=1), 0) != first


def test_keys_name_the_clip_and_its_input_frames(clips):
    a, b = FrameChoice((0, 8, 16), (5,)), FrameChoice((0, 9, 16), (5,))
    names = {make_sample(c, choice, CARD, **SIZE).key for c in clips[:2] for choice in (a, b)}
    assert len(names) == 4
    same = [make_sample(clips[0], FrameChoice(a.inputs, (t,)), CARD, **SIZE).key for t in (5, 6)]
    assert same[0] == same[1]  # the same video for the backbone
    assert all("/" not in name for name in names)


def test_samples_survive_the_way_to_a_worker(clips):
    fixed = dataset(clips, samplings_per_clip=2)
    there = pickle.loads(pickle.dumps(fixed))
    for index in range(len(fixed)):
        assert_same(fixed.sample(index, 0), there.sample(index, 0))


class FailingFrames:
    def read(self, indices):
        raise ClipError("the disk ate it")


def test_a_clip_that_breaks_at_run_time_is_counted_never_replaced(clips):
    broken = dataclasses.replace(clips[1], frames=FailingFrames())
    samples = dataset([clips[0], broken, clips[2]])
    assert samples.skipped == []
    assert samples.sample(1, 0) == Skipped(clips[1].key, "the disk ate it")
    assert [samples.sample(i, 0).clip_key for i in (0, 2)] == [clips[0].key, clips[2].key]


def test_batches_stack_and_move(clips):
    samples = dataset(clips)
    batch = collate([samples.sample(i, 0) for i in range(3)])
    assert batch.video.shape == (3, 3, 5, 32, 48)
    assert batch.target_viewmats.shape == (3, 3, 4, 4)
    assert batch.world_scale.shape == (3,)
    moved = batch.to("meta")
    assert moved.keys == batch.keys
    assert moved.video.device.type == moved.input_indices.device.type == "meta"


def test_clips_that_allow_no_sampling_are_listed(clips):
    short = dataclasses.replace(
        clips[0], key="short", viewmats=clips[0].viewmats[:6], intrinsics=clips[0].intrinsics[:6]
    )
    still = dataclasses.replace(
        clips[0], key="still", viewmats=clips[0].viewmats[:1].repeat(24, 1, 1)
    )
    samples = dataset([short, clips[1], still])
    assert [clip.key for clip in samples.clips] == [clips[1].key]
    assert [key for key, _ in samples.skipped] == ["short", "still"]
    assert "6 frames are too few" in samples.skipped[0].reason
    assert "hardly move" in samples.skipped[1].reason
    with pytest.raises(InputError, match=r"no clip gives a sample \(2 left out: short"):
        dataset([short, still])


def test_evaluation_uses_exactly_the_frames_it_is_given(clips):
    choices = even_choices(clips, CARD, frames=5, targets=3)
    evaluation = EvaluationDataset(clips, CARD, choices, **SIZE)
    assert len(evaluation) == 3
    for sample in (evaluation[i] for i in range(3)):
        inputs, targets = choices.choices[sample.clip_key]
        assert tuple(sample.input_indices.tolist()) == inputs
        assert tuple(sample.target_indices.tolist()) == targets


def test_evaluation_lists_what_it_leaves_out(clips):
    still = dataclasses.replace(clips[1], viewmats=clips[1].viewmats[:1].repeat(24, 1, 1))
    broken = dataclasses.replace(clips[2], frames=FailingFrames())
    everything = [clips[0], still, broken]
    choices = even_choices(everything, CARD, frames=5, targets=3)
    evaluation = EvaluationDataset(everything, CARD, choices, **SIZE)
    assert [key for key, _ in evaluation.skipped] == [still.key]
    assert evaluation[1] == Skipped(broken.key, "the disk ate it")
    nothing = FrameChoices(choices={}, skipped=[])
    with pytest.raises(InputError, match="no clip gives a sample"):
        EvaluationDataset(clips, CARD, nothing, **SIZE)


def test_real_clips_give_samples_from_both_layouts(real_data):
    card = load_card("re10k")
    for layout in ("re10k", "re10k_chunks"):
        real = load_re10k(real_data / layout, "test").clips
        samples = PosedVideoDataset(real, card, frames=17, targets=3, height=96, width=128)
        assert samples.skipped == []
        batch = collate([samples.sample(i, 0) for i in range(2)])
        assert batch.video.shape == (2, 3, 17, 96, 128)
        last = batch.input_viewmats[:, -1].inverse()[:, :3, 3]
        torch.testing.assert_close(last.norm(dim=1), torch.ones(2), atol=1e-5, rtol=0)
