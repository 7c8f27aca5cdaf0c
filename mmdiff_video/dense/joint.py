"""One decoder for several tasks (paper, App. C): shared aggregators and head, outputs side by side.

The head's outputs are the tasks' own, concatenated; its last layer is a 1x1 convolution, so that a
task's share of it makes an ordinary single-task model. Training leaves one of those for each task
in a folder of its own, which evaluation, ``predict`` and ``generate`` open like any other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from mmdiff_video.assembly import Training, seeded_weights, train_run
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import LoadedImages
from mmdiff_video.datasets.pictures.views import DenseBatch, DenseSample, TrainingViews, collate
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.model import DenseNet, build_model, concepts_of, parameter_counts
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import DenseSetup, Net, set_up_dense
from mmdiff_video.dense.task_data import TaskData
from mmdiff_video.dense.train import (
    caches_of,
    load_training_images,
    preview_rows,
    save_preview,
    training_views,
)
from mmdiff_video.errors import InputError
from mmdiff_video.process import processes
from mmdiff_video.runs import FACTS, open_run
from mmdiff_video.skipped import Skipped
from mmdiff_video.tables import format_table
from mmdiff_video.tasks import task_named
from mmdiff_video.training import TrainResult
from mmdiff_video.training.data import sample_at

_HEAD = "dpt"
"""The shared decoder unless the config names one (the paper does not say which)."""

_WEIGHT_SAMPLES = 16
"""Samples of each task whose losses under fresh weights set the tasks' weights."""


@dataclass(frozen=True)
class Member:
    """One task of a joint run.

    Attributes:
        setup: of an ordinary run of this task; its model receives the task's share in the end.
        views: what it trains on.
        loaded: the pictures behind them.
        outputs: its channels among those of the shared head.
    """

    setup: DenseSetup
    views: TrainingViews
    loaded: LoadedImages
    outputs: slice

    def share_of(self, model: nn.Module) -> Net:
        """The task's outputs of the shared model, called like a model of its own."""
        return lambda *inputs: model(*inputs)[:, self.outputs]

    def loss(self, model: nn.Module, batch: DenseBatch) -> Tensor:
        """The unweighted loss of the shared model on samples of this task."""
        return self.setup.loss(self.share_of(model), batch)[0]


@dataclass(frozen=True)
class JointBatch:
    """The samples of each task that is in a batch."""

    parts: dict[str, DenseBatch]

    def to(self, device: torch.device | str) -> "JointBatch":
        """Move the tensors."""
        return JointBatch({task: part.to(device) for task, part in self.parts.items()})


def train_joint(
    config: DenseConfig,
    tasks: Sequence[TaskData],
    out: Path,
    *,
    resume: bool = False,
    backbone: Backbone | None = None,
) -> tuple[TrainResult, list[Path]]:
    """Train one decoder for several tasks.

    Args:
        config: of the whole; ``task`` is not read.
        tasks: at least two different ones, each with its own data or the config's.
        out: the run folder; ``out/TASK`` becomes a finished single-task run.
        resume: go on from its newest checkpoint.
        backbone: one that is loaded already.

    Returns:
        How training ended, and the folders of the tasks.

    Raises:
        InputError: a single task or one that comes twice; a config, data or a run folder that
            cannot be trained with.
    """
    names = [chosen.task for chosen in tasks]
    if len(set(names)) < len(names) or len(names) < 2:
        raise InputError(f"joint training needs different tasks, not {', '.join(names)}")
    members = members_of(config, tasks, backbone)
    first = members[names[0]].setup
    with seeded_weights(config.train.seed):
        model = build_model(
            first.config,
            first.backbone,
            outputs=sum(m.setup.task.outputs for m in members.values()),
            head=first.config.head or _HEAD,
            beside=len(concepts_of(first.config, first.task)),
            dino_channels=first.dino.channels if first.dino else 0,
        )
    model.to(first.backbone.device)
    weights = settled_weights(members, model, config.train.seed, out if resume else None)
    folders = {name: out / name for name in names}

    def finish(step: int) -> None:
        for name, member in members.items():
            give_share(model, member)
            DenseModel(member.setup, member.loaded.classes, step).save_pretrained(folders[name])

    pictures = {name: len(member.loaded.images) for name, member in members.items()}
    training = Training(
        kind="joint",
        setup=first,
        model=model,
        samples=_JointViews(members),
        collate=_collate,
        loss=_JointLoss(members, weights),
        preview=_JointPreview(members),
        lr_factors={"head": config.head_lr_factor},
        parameters=parameter_counts(model),
        number=sum(pictures.values()),
        skipped=[
            Skipped(f"{name}:{entry.key}", entry.reason)
            for name, member in members.items()
            for entry in member.loaded.skipped
        ],
        note=" ".join(dict.fromkeys(m.loaded.note for m in members.values() if m.loaded.note)),
        details={"tasks": names, "task_weights": weights, "pictures": pictures},
        summary=[_summary(members, weights)],
        caches=[use for m in members.values() for use in caches_of(m.setup, m.views)],
        finish=finish,
    )
    return train_run(training, out, resume=resume), list(folders.values())


def members_of(
    config: DenseConfig, tasks: Sequence[TaskData], backbone: Backbone | None
) -> dict[str, Member]:
    """Set up every task as a run of its own, with the shared head and the union of concepts."""
    if config.concept_maps and config.concepts is None:
        words = dict.fromkeys(word for chosen in tasks for word in task_named(chosen.task).concepts)
        config = replace(config, concepts=tuple(words))
    members: dict[str, Member] = {}
    start = 0
    for chosen in tasks:
        own = replace(chosen.config_of(config), head=config.head or _HEAD)
        own, loaded = load_training_images(own, load_image_card(own.data.name))
        setup = set_up_dense(own, loaded.classes, backbone)
        backbone = setup.backbone
        end = start + setup.task.outputs
        members[chosen.task] = Member(
            setup, training_views(setup, loaded), loaded, slice(start, end)
        )
        start = end
    return members


class _JointViews:
    """Samples of all tasks in equal number: an epoch goes through smaller sets more than once."""

    def __init__(self, members: Mapping[str, Member]):
        self.members = members
        self.longest = max(len(m.views) for m in members.values())

    def __len__(self) -> int:
        return self.longest * len(self.members)

    def sample(self, index: int, epoch: int) -> tuple[str, DenseSample] | Skipped:
        number, place = divmod(index, self.longest)
        task = list(self.members)[number]
        views = self.members[task].views
        turns = -(-self.longest // len(views))
        sample = views.sample(place % len(views), epoch * turns + place // len(views))
        if isinstance(sample, Skipped):
            return Skipped(f"{task}:{sample.key}", sample.reason)
        return task, sample


def _collate(samples: Sequence[tuple[str, DenseSample]]) -> JointBatch:
    tasks = dict.fromkeys(task for task, _ in samples)
    return JointBatch({t: collate([s for task, s in samples if task == t]) for t in tasks})


class _JointLoss:
    """The tasks' losses, weighted by task and by how many samples of it a batch has."""

    def __init__(self, members: Mapping[str, Member], weights: Mapping[str, float]):
        self.members, self.weights = members, weights

    def __call__(self, model: nn.Module, batch: JointBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        count = sum(len(part.keys) for part in batch.parts.values())
        losses = {t: self.members[t].loss(model, part) for t, part in batch.parts.items()}
        shares = (
            self.weights[task] * len(batch.parts[task].keys) / count * loss
            for task, loss in losses.items()
        )
        return torch.stack(list(shares)).sum(), losses


class _JointPreview:
    """Draws the first views of every task, one task below the other."""

    def __init__(self, members: Mapping[str, Member]):
        self.members = list(members.values())

    def __call__(self, model: nn.Module, step: int, path: Path) -> None:
        rows = [
            row
            for member in self.members
            for row in preview_rows(member.setup, member.views, member.share_of(model))
        ]
        save_preview(rows, step, path, self.members[0].setup.notice)


def settled_weights(
    members: Mapping[str, Member], model: DenseNet, seed: int, begun: Path | None
) -> dict[str, float]:
    """Return the weights of the tasks, the same on all processes.

    Args:
        members: the tasks.
        model: with the weights that the run begins with.
        seed: of the run.
        begun: the folder of a run that goes on, with the weights that it began with; None: a run
            that begins, whose weights are measured.
    """
    settled: list[dict[str, float]] = [{}]
    if processes().is_main_process:
        kept = _recorded_weights(begun) if begun else {}
        same = kept.keys() == members.keys()
        settled[0] = kept if same else measured_weights(members, model, seed)
    broadcast_object_list(settled)
    return settled[0]


def _recorded_weights(run: Path) -> dict[str, float]:
    """Read what a run was started with from its ``run.json``; nothing where that is not there."""
    if not (run / FACTS).is_file():
        return {}
    found = open_run(run, "joint").facts.details.get("task_weights", {})
    try:
        weights = {str(task): float(weight) for task, weight in found.items()}
    except (AttributeError, TypeError, ValueError):
        weights = {"": math.nan}
    if not all(0 < weight < math.inf for weight in weights.values()):
        raise InputError(
            f"'{run / FACTS}' is damaged: its task_weights must be positive numbers; restore it"
            " from a copy, or train in another folder"
        )
    return weights


@torch.no_grad()
def measured_weights(members: Mapping[str, Member], model: DenseNet, seed: int) -> dict[str, float]:
    """Make every task weigh alike at the start: inverse to its loss under fresh weights, mean 1.

    The paper sets the weights "from the relative loss magnitudes early in training". A function of
    config and data: nothing is dropped out, and whatever is left to chance comes from the seed.
    """
    model.eval()  # the loop sets it to training before every step
    magnitudes: dict[str, float] = {}
    for task, member in members.items():
        size = len(member.views)
        places = (sample_at(i, size, seed)[0] for i in range(min(_WEIGHT_SAMPLES, size)))
        samples = (member.views.sample(place, 0) for place in places)
        usable = [s for s in samples if isinstance(s, DenseSample)]
        if not usable:
            raise InputError(
                f"none of the {min(_WEIGHT_SAMPLES, size)} pictures tried for {task} is usable:"
                " `mmdiff-video data check` says why"
            )
        device = member.setup.backbone.device
        with seeded_weights(seed):
            values = [float(member.loss(model, collate([s]).to(device))) for s in usable]
        magnitudes[task] = max(sum(values) / len(values), 1e-6)
    inverse = {task: 1 / magnitude for task, magnitude in magnitudes.items()}
    mean = sum(inverse.values()) / len(inverse)
    return {task: value / mean for task, value in inverse.items()}


def give_share(joint: DenseNet, member: Member) -> None:
    """Copy the joint weights into a task's own model, of the last layer its outputs alone."""
    own = member.setup.model.state_dict()
    for name, tensor in joint.state_dict().items():
        own[name] = tensor if tensor.shape == own[name].shape else tensor[member.outputs]
    member.setup.model.load_state_dict(own)


def _summary(members: Mapping[str, Member], weights: Mapping[str, float]) -> str:
    rows = [
        [task, m.setup.card.title, str(len(m.views)), f"{weights[task]:.3f}"]
        for task, m in members.items()
    ]
    return format_table(["task", "data", "pictures", "weight"], rows)
