"""``mmdiff-video dense``: train a head on labelled pictures, and score it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from mmdiff_video.assembly import CacheUse, Training, train_run
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.loading import load_images
from mmdiff_video.datasets.pictures.card import ImageCard, load_image_card
from mmdiff_video.datasets.pictures.labelled import LoadedImages
from mmdiff_video.datasets.pictures.views import DenseSample, TrainingViews, collate
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.model import parameter_counts
from mmdiff_video.dense.pictures import PictureRow, picture_row
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import DenseSetup, Net, set_up_dense
from mmdiff_video.pictures import side_by_side
from mmdiff_video.process import processes
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.tasks import labels_of
from mmdiff_video.training import TrainResult

_PREVIEWED = 3
"""Views of a task that a preview shows."""


def train_dense(
    config: DenseConfig, out: Path, *, resume: bool = False, backbone: Backbone | None = None
) -> TrainResult:
    """Train, and leave a run folder that :class:`DenseModel` opens.

    Args:
        config: see :class:`DenseConfig`.
        out: the run folder.
        resume: go on from its newest checkpoint.
        backbone: one that is loaded already, when several runs share it.

    Raises:
        InputError: a config, data or a run folder that cannot be trained with.
    """
    config, loaded = load_training_images(config, load_image_card(config.data.name))
    setup = set_up_dense(config, loaded.classes, backbone)
    views = training_views(setup, loaded)
    training = Training(
        kind="dense",
        setup=setup,
        model=setup.model,
        samples=views,
        collate=collate,
        loss=setup.loss,
        preview=_Preview(setup, views),
        lr_factors={"head": config.head_lr_factor},
        parameters=parameter_counts(setup.model),
        number=len(loaded.images),
        skipped=loaded.skipped,
        note=loaded.note,
        summary=_summary(setup, loaded),
        caches=caches_of(setup, views),
        finish=lambda step: DenseModel(setup, loaded.classes, step).save_pretrained(out),
    )
    return train_run(training, out, resume=resume)


def load_training_images(config: DenseConfig, card: ImageCard) -> tuple[DenseConfig, LoadedImages]:
    """Find the training pictures; the config comes back with the absolute path of their root.

    Raises:
        InputError: no data, or none for the task.
    """
    data = config.data
    with processes().main_process_first():  # which may make the procedural set for all
        root = find_or_make_root(card, data.root)
    loaded = load_images(
        card,
        root,
        data.train_split or card.train,
        labels_of(config.task),
        max_images=data.max_images,
        split_seed=data.split_seed,
    )
    # absolute, so that the run can be scored from another folder
    return replace(config, data=replace(data, root=str(root.resolve()))), loaded


def training_views(setup: DenseSetup, loaded: LoadedImages) -> TrainingViews:
    """Make the views that a run trains on.

    Raises:
        InputError: a batch of them is larger than this machine's memory.
    """
    setup.source.check_memory(1, setup.height, setup.width, setup.config.train.batch_size)
    return TrainingViews(
        loaded.images,
        setup.task.labels,
        height=setup.height,
        width=setup.width,
        void=setup.card.void,
        augment=setup.config.data.augment,
        seed=setup.config.train.seed,
        views=setup.config.data.views,
    )


class _Preview:
    """Draws the first views: input, truth, prediction, error."""

    def __init__(self, setup: DenseSetup, views: TrainingViews):
        self.setup = setup
        self.views = views

    def __call__(self, model: nn.Module, step: int, path: Path) -> None:
        save_preview(preview_rows(self.setup, self.views, model), step, path, self.setup.notice)


def preview_rows(setup: DenseSetup, views: TrainingViews, model: Net) -> list[PictureRow]:
    """Draw the first views of a task; broken ones are left out (the training loop counts them).

    Args:
        setup, views: of the task.
        model: what predicts.
    """
    samples = [views.sample(i, 0) for i in range(min(_PREVIEWED, len(views)))]
    usable = [sample for sample in samples if isinstance(sample, DenseSample)]
    if not usable:
        return []
    found = setup.task.decode(setup.output(model, collate(usable).to(setup.backbone.device)))
    return [
        picture_row(setup.task, sample, sample.image, prediction)
        for sample, prediction in zip(usable, found.cpu(), strict=True)
    ]


def save_preview(rows: Sequence[PictureRow], step: int, path: Path, notice: str) -> None:
    """Save rows of :func:`preview_rows` as one sheet; without any, nothing."""
    if rows:
        titles = ["training view", "truth", f"prediction, step {step}", "error"]
        side_by_side(rows, titles, note=notice).save(path)


def caches_of(setup: DenseSetup, views: TrainingViews) -> list[CacheUse]:
    """How a task's training uses the feature cache; nothing where it has none."""
    if setup.source.cache is None:
        return []
    drawn = setup.config.data.views
    return [
        CacheUse(
            cache=setup.source.cache,
            bytes_per_sample=setup.bytes_per_view(),
            samples=len(views) * (drawn or 1),
            fixed=drawn is not None,
            fixed_by="data.views",
        )
    ]


def _summary(setup: DenseSetup, loaded: LoadedImages) -> list[str]:
    """Say what the run trains on."""
    grid = setup.backbone.geometry.token_grid(1, setup.height, setup.width)[1:]
    captions = sum(image.caption is not None for image in loaded.images)
    return [
        f"{setup.card.title}, {setup.task.name}: {len(loaded.images)} pictures, {captions} with a"
        f" caption, {len(loaded.skipped)} left out (see run.json)",
        f"{setup.backbone.name}: {setup.width}x{setup.height}, tokens {grid[0]} x {grid[1]},"
        f" input {setup.config.input}",
    ]
