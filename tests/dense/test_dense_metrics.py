import math
import warnings

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from mmdiff_video.datasets.picture_files import PictureError, read_label
from mmdiff_video.datasets.pictures.labelled import Classes, voc_colors
from mmdiff_video.errors import InputError
from mmdiff_video.tasks.depth import Depth, DepthLossConfig, read_depth
from mmdiff_video.tasks.saliency import Saliency, SaliencyLossConfig
from mmdiff_video.tasks.seg import SegLossConfig, Segmentation

CLASSES = Classes(("sky", "road", "car"), voc_colors(3))


@pytest.fixture
def seg() -> Segmentation:
    return Segmentation(CLASSES, SegLossConfig())


def depth(**changes) -> Depth:
    settings = {"min_depth": 0.1, "max_depth": 10.0, "eval_crop": "none"} | changes
    return Depth(**settings, loss=DepthLossConfig())


def test_miou_comes_from_one_confusion_and_agrees_with_torchmetrics(seg):
    generator = torch.Generator().manual_seed(0)
    scores = seg.scores()
    found, truths = [], []
    for size in ((5, 7), (4, 3)):
        prediction = torch.randint(3, size, generator=generator)
        target = torch.randint(3, size, generator=generator)
        target[0] = 255
        scores.add(prediction[None], target[None], target != 255)
        found.append(prediction.flatten())
        truths.append(target.flatten())
    figures = scores.compute()
    found, truth = torch.cat(found), torch.cat(truths)
    expected = multiclass_jaccard_index(found, truth, 3, ignore_index=255)
    assert figures["mIoU"] == pytest.approx(100 * float(expected), rel=1e-6)
    known = truth != 255
    ious = []
    for label, name in enumerate(CLASSES.names):
        a, b = (found == label) & known, (truth == label) & known
        ious.append(100 * int((a & b).sum()) / int((a | b).sum()))
        assert figures[f"IoU {name}"] == pytest.approx(ious[-1], rel=1e-5)
    assert figures["mIoU"] == pytest.approx(np.mean(ious), rel=1e-5)
    assert figures["accuracy"] == pytest.approx(
        100 * float((found == truth)[known].double().mean()), rel=1e-5
    )


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_iou(seg):
    scores = seg.scores()
    target = torch.tensor([[0, 0, 1, 255]])
    scores.add(torch.tensor([[[0, 0, 0, 2]]]), target[None], target != 255)
    figures = scores.compute()
    assert figures["IoU sky"] == pytest.approx(100 * 2 / 3)
    assert figures["IoU road"] == 0
    assert math.isnan(figures["IoU car"])
    assert figures["mIoU"] == pytest.approx(100 / 3)


def test_depth_figures_by_hand():
    scores = depth().scores()
    target = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    prediction = torch.tensor([[1.1, 4.0], [3.0, 7.0]])
    scores.add(prediction[None], target[None], target > 0)
    scores.add(target[None] + 1, target[None] + 1, torch.ones(2, 2, dtype=torch.bool))
    figures = scores.compute()
    # first picture: relative errors 0.1, 1, 0.25; ratios 1.1, 2, 1.333; second: perfect
    assert figures["AbsRel"] == pytest.approx((0.1 + 1 + 0.25) / 3 / 2)
    assert figures["RMSE"] == pytest.approx(math.sqrt((0.01 + 4 + 1) / 3) / 2)
    assert figures["delta1"] == pytest.approx((1 / 3 + 1) / 2)
    assert figures["delta2"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["delta3"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["pictures"] == 2


def test_depth_beyond_the_range_is_not_scored_and_predictions_are_clipped():
    task = depth(min_depth=1.0, max_depth=3.0)
    scores = task.scores()
    target = torch.tensor([[0.5, 2.0, 8.0]])
    scores.add(torch.tensor([[[9.0, 2.0, 9.0]]]), target[None], target > 0)
    assert scores.compute()["AbsRel"] == 0
    decoded = task.decode(torch.tensor([[[-50.0, 50.0]]]))
    assert decoded.tolist() == [[[1.0, 3.0]]]


def test_eigens_crop_is_the_one_everybody_uses_at_480_by_640():
    task = depth(eval_crop="eigen")
    target = torch.full((480, 640), 2.0)
    prediction = target.clone()
    prediction[45:471, 41:601] = 4.0
    scores = task.scores()
    scores.add(prediction[None], target[None], target > 0)
    assert scores.compute()["AbsRel"] == pytest.approx(1.0)
    prediction = torch.full((480, 640), 4.0)
    prediction[45:471, 41:601] = 2.0
    scores = task.scores()
    scores.add(prediction[None], target[None], target > 0)
    assert scores.compute()["AbsRel"] == 0
    assert "Eigen" in task.protocol()


def test_no_scored_picture_is_no_figure():
    assert all(math.isnan(v) for v in depth().scores().compute().values())


def test_saliency_figures_are_pysodmetrics_own():
    import py_sod_metrics as sod

    generator = torch.Generator().manual_seed(0)
    scores = Saliency(SaliencyLossConfig()).scores()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the class with the published convention is deprecated
        reference = sod.Smeasure(), sod.Fmeasure(), sod.MAE()
    for size in ((20, 30), (25, 16)):
        target = torch.zeros(size)
        target[5:12, 4:13] = 1
        prediction = (0.6 * target + 0.4 * torch.rand(size, generator=generator)).clamp(0, 1)
        scores.add(prediction[None], target[None], torch.ones(size, dtype=torch.bool))
        for metric in reference:
            metric.step(
                pred=(prediction * 255).round().byte().numpy(),
                gt=(target * 255).byte().numpy(),
            )
    figures = scores.compute()
    assert figures["Sm"] == pytest.approx(reference[0].get_results()["sm"])
    assert figures["maxF"] == pytest.approx(reference[1].get_results()["fm"]["curve"].max())
    assert figures["MAE"] == pytest.approx(reference[2].get_results()["mae"])


def test_perfect_predictions_score_perfectly(seg):
    labels = torch.arange(12).view(3, 4) % 3
    everywhere = torch.ones(3, 4, dtype=torch.bool)
    scores = seg.scores()
    scores.add(labels[None], labels[None], everywhere)
    assert scores.compute()["mIoU"] == 100
    metres = labels + 1.0
    scores = depth().scores()
    scores.add(metres[None], metres[None], everywhere)
    assert scores.compute() | {"pictures": 0} == {
        "AbsRel": 0, "RMSE": 0, "delta1": 1, "delta2": 1, "delta3": 1, "pictures": 0,
    }  # fmt: skip


def test_constants_learn_from_known_pixels(seg):
    majority = seg.constant()
    target = torch.tensor([[1, 1, 255, 255, 255, 2]])
    majority.add(target[None], target != 255)
    assert majority.predict(2, 3).tolist() == [[[1] * 3] * 2]

    median = depth(max_depth=5.0).constant()
    target = torch.tensor([[0.0, 0.0, 2.0, 3.0, 4.0, 90.0]])
    median.add(target[None], target > 0)
    assert median.predict(1, 2).tolist() == [[[3.0, 3.0]]]

    prior = Saliency(SaliencyLossConfig()).constant()
    mask = torch.zeros(128, 64)
    mask[:64] = 1
    prior.add(mask[None], mask > -1)
    prior.add(0 * mask[None], mask > -1)
    (predicted,) = prior.predict(32, 32)
    assert predicted[:8].min() == pytest.approx(0.5)
    assert predicted[-8:].max() == 0


@pytest.mark.parametrize("name", ["seg", "depth", "saliency"])
def test_outputs_that_fit_the_truth_cost_least(seg, name):
    """The loss falls, and the decoded prediction comes true, as an output is fitted."""
    task = {"seg": seg, "depth": depth(), "saliency": Saliency(SaliencyLossConfig())}[name]
    torch.manual_seed(0)
    target = {
        "seg": torch.randint(3, (2, 1, 6, 6)),
        "depth": 1 + 3 * torch.rand(2, 1, 6, 6),
        "saliency": (torch.rand(2, 1, 6, 6) > 0.5).float(),
    }[name]
    valid = torch.ones(2, 6, 6, dtype=torch.bool)
    output = torch.zeros(2, task.outputs, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.1)
    losses = []
    for _ in range(150):
        loss = torch.stack(list(task.loss(output, target, valid).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    found = task.decode(output.detach())
    assert (found - target).abs().float().mean() < 0.1 if name != "seg" else (found == target).all()


def test_pictures_of_predictions(seg, tmp_path):
    labels = torch.tensor([[[0, 1, 255]]])
    assert seg.color(labels)[0].tolist() == [[0, 0, 0], [128, 0, 0], [224, 224, 192]]
    wrong = seg.error(torch.tensor([[[1, 1, 1]]]), labels, labels[0] != 255)[0]
    assert wrong.tolist() == [[128, 0, 0], [0, 0, 0], [96, 96, 96]]
    path = tmp_path / "a.png"
    seg.write(labels, path)
    stored = read_label(path)
    assert (stored.mode, stored.values.tolist()) == ("P", [[0, 1, 255]])
    depth().write(torch.tensor([[[1.5, 0.0, 65.535]]]), path)
    metres = read_label(path).values
    assert metres.dtype == np.uint16
    assert metres.tolist() == [[1500, 0, 65535]]
    Saliency(SaliencyLossConfig()).write(torch.tensor([[[0.0, 0.5, 1.0]]]), path)
    assert read_label(path).values.tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("metres", [65.536, 99.0, 1e6, 3e38])
def test_depth_that_millimetres_cannot_hold_is_refused_or_an_array(tmp_path, metres):
    values = np.array([[[1.5, metres, 0.0, np.nan, np.inf, -np.inf]]], np.float32)
    with pytest.raises(InputError, match=r"65\.5 m: give a name that ends in \.npy"):
        Depth.labels.write(tmp_path / "a.png", values, None)
    assert not list(tmp_path.iterdir())
    Depth.labels.write(tmp_path / "a.npy", values, None)
    read = read_depth(tmp_path / "a.npy", unit=0.001)
    assert read.tolist() == [[[1.5, float(np.float32(metres)), 0, 0, 0, 0]]]
    Depth.labels.write(tmp_path / "b.png", values[:, :, [0, 2, 3, 4, 5]], None)
    assert read_label(tmp_path / "b.png").values.tolist() == [[1500, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3), bool), np.zeros((2, 3, 1), np.float32), np.zeros(3), np.array("x")],
)
def test_arrays_that_are_no_depth_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(PictureError, match=r"is an array of .*or an array \[H, W\]"):
        read_depth(tmp_path / "a.npy", unit=0.001)


@pytest.mark.parametrize("label", [256, 300, -1, 70000])
def test_class_ids_that_eight_bits_cannot_hold_are_refused(tmp_path, seg, label):
    with pytest.raises(InputError, match="8-bit PNG"):
        seg.write(torch.tensor([[[0, label]]]), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metres", "suffix"),
    [
        ([0.1, 10.0], ".png"),
        ([0.0005, 65.535], ".png"),
        ([0.1, 65.54], ".npy"),
        ([0.0001, 1.0], ".npy"),
        ([0.0, 1.0], ".png"),
        ([1.0, 2.0**100], ".npy"),
    ],
)
def test_depth_takes_the_file_that_holds_it(tmp_path, metres, suffix):
    task = depth(max_depth=80.0)
    written = task.write(torch.tensor([[metres]]), tmp_path / "a.b.png")
    assert written == tmp_path / f"a.b{suffix}"
    assert list(tmp_path.iterdir()) == [written]
    assert read_depth(written, unit=0.001)[0, 0].tolist() == pytest.approx(metres, abs=6e-4)


def test_depth_decodes_every_finite_output_with_a_finite_derivative():
    task = Depth(min_depth=0.1, max_depth=10.0, eval_crop="none", loss=DepthLossConfig())
    raw = torch.tensor([-3.4e38, -100.0, -1.0, 0.0, 1.0, 88.0, 100.0, 3.4e38]).view(1, 1, 1, -1)
    raw.requires_grad_()
    depth = task.decode(raw)
    assert ((depth >= 0.1) & (depth <= 10)).all()
    assert torch.equal(depth, (raw + task._middle).exp().clamp(0.1, 10))
    depth.sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert raw.grad[..., 3] > 0
