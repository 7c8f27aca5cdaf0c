"""What holds for every task, and how a config chooses a task's loss."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from mmdiff_video.config import load_config, record_config, save_config
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.heads import HEADS
from mmdiff_video.errors import InputError
from mmdiff_video.rooms import CLASSES, draw_room, make_room
from mmdiff_video.tasks import TASKS, DataFacts, build_task, join_tasks, loss_of
from mmdiff_video.tasks.depth import DepthLossConfig
from mmdiff_video.tasks.seg import SegLossConfig

ROOM_CLASSES = Classes(tuple(c.name for c in CLASSES), tuple(c.color for c in CLASSES))


def build(name: str):
    facts = DataFacts(card=load_image_card("rooms"), classes=ROOM_CLASSES, min_depth=0.1,
                      max_depth=10.0, eval_crop="none")  # fmt: skip
    return build_task(name, TASKS[name].losses(), facts)


@pytest.fixture(scope="module")
def frame():
    return draw_room(make_room("train", 3), 1, 24, 32).frame(0)


@pytest.mark.parametrize("name", TASKS)
def test_a_drawn_label_is_written_read_and_becomes_a_target(name, frame, tmp_path):
    labels = TASKS[name].labels
    assert labels.name == name == TASKS[name].name
    drawn = labels.drawn(frame)
    assert drawn.shape[1:] == (24, 32)
    file = tmp_path / f"a{labels.suffixes[0]}"
    labels.write(file, drawn, ROOM_CLASSES)
    read = labels.decoder(load_image_card("rooms"), ROOM_CLASSES)(file)
    np.testing.assert_allclose(read.astype(float), drawn, atol=6e-4)
    target, valid = labels.target(read, 255)
    assert target.shape == drawn.shape
    assert valid.shape == (24, 32)
    assert valid.all()
    twice = labels.mirrored(labels.mirrored(target))
    assert torch.equal(twice, target)


@pytest.mark.parametrize("name", TASKS)
def test_shapes_go_together_from_the_head_to_the_picture(name, frame, tmp_path):
    task = build(name)
    assert task.head in HEADS
    target, valid = task.labels.target(task.labels.drawn(frame).copy(), 255)
    output = torch.randn(2, task.outputs, 24, 32)
    found = task.decode(output)
    assert found.shape == (2, *target.shape)
    assert task.decode(output[0]).shape == target.shape
    terms = task.loss(output, torch.stack([target] * 2), torch.stack([valid] * 2))
    assert set(terms) == set(task.losses.terms)
    assert all(term.ndim == 0 for term in terms.values())
    scores, constant = task.scores(), task.constant()
    constant.add(target, valid)
    for prediction in (found[0], constant.predict(24, 32)):
        assert prediction.shape == target.shape
        scores.add(prediction, target, valid)
    assert list(scores.compute())[: len(task.metrics)] == list(task.metrics)
    for picture in (task.color(found[0]), task.error(found[0], target, valid)):
        assert (picture.dtype, picture.shape) == (np.uint8, (24, 32, 3))
    task.write(found[0], tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("name", TASKS)
def test_a_perfect_prediction_is_no_error(name, frame):
    task = build(name)
    target, valid = task.labels.target(task.labels.drawn(frame).copy(), 255)
    assert task.error(target, target, valid).max() <= 10  # the darkest of the scale


def test_no_two_tasks_share_a_key_of_their_losses():
    keys = [f.name for task in TASKS.values() for f in dataclasses.fields(task.losses)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", TASKS)
def test_a_loss_without_any_term_is_refused(name):
    schema = TASKS[name].losses
    with pytest.raises(InputError, match="nothing would be learnt with loss"):
        schema(**dict.fromkeys(schema.terms, 0.0))


def test_the_task_chooses_the_loss():
    assert load_config(DenseConfig).loss == SegLossConfig()
    config = load_config(DenseConfig, overrides=["loss.silog=2", "task=depth"])
    assert config.loss == DepthLossConfig(silog=2.0)
    with pytest.raises(InputError, match=r"'loss.bce' has no meaning with the chosen 'task'"):
        load_config(DenseConfig, overrides=["task=depth", "loss.bce=2"])


def test_several_tasks_share_one_loss_section_and_each_takes_its_part(tmp_path):
    joined = join_tasks("seg", "depth")
    overrides = ["loss.silog=2", "loss.cross_entropy=3"]
    config = load_config(DenseConfig, overrides=[f"task={joined}", *overrides])
    assert config.of_task("seg").loss == SegLossConfig(cross_entropy=3.0)
    assert config.of_task("depth").loss == DepthLossConfig(silog=2.0)
    assert config.of_task("depth").task == "depth"
    with pytest.raises(InputError, match="no meaning"):
        load_config(DenseConfig, overrides=[f"task={joined}", "loss.bce=3"])
    with pytest.raises(InputError, match="unknown task 'depht': did you mean 'depth'"):
        load_config(DenseConfig, overrides=["task=seg+depht"])
    none = load_config(DenseConfig, overrides=[f"task={joined}", "loss.cross_entropy=0"])
    with pytest.raises(InputError, match=r"with loss.cross_entropy at 0"):
        none.of_task("seg")
    save_config(config, tmp_path / "config.yaml")
    again = load_config(DenseConfig, tmp_path / "config.yaml")
    assert dataclasses.asdict(again) == dataclasses.asdict(config)


def test_the_loss_of_a_task_that_a_config_does_not_speak_of_is_the_default():
    assert loss_of("depth", SegLossConfig(cross_entropy=3.0)) == DepthLossConfig()


def test_a_file_with_the_keys_of_all_tasks_opens_and_is_no_change(tmp_path, caplog):
    """As version 0.1.0 wrote them."""
    file = tmp_path / "config.yaml"
    file.write_text("task: depth\nloss: {cross_entropy: 9.0, silog: 2.0, bce: 1.0, iou: 1.0}\n")
    config = load_config(DenseConfig, file)
    assert config.loss == DepthLossConfig(silog=2.0)
    with caplog.at_level(logging.WARNING):
        record_config(config, file)
    assert not caplog.text
