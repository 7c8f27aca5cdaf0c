"""Cards of labelled pictures: ``data/images/NAME.yaml``."""

from dataclasses import dataclass, field

from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.resources import resource_dir

EVAL_CROPS = ("none", "eigen")
"""Where depth is scored: everywhere, or inside Eigen's crop of NYU."""


@dataclass(frozen=True, kw_only=True)
class ImageCard:
    """One data set of labelled pictures.

    Attributes:
        name: how the user asks for it.
        title: its full name, for tables.
        reader: the layout, a key of :data:`mmdiff_video.datasets.loading.PICTURE_READERS`.
        tasks: what it is labelled with, keys of :data:`mmdiff_video.tasks.TASKS`.
        splits: their names.
        train, held_out: the splits that are trained on and scored, unless the user says otherwise.
        classes: names in order of their ids; a ``classes.txt`` in the data root takes their place.
        void: the label that is no class.
        depth_unit: metres of one step in a depth picture.
        min_depth, max_depth: metres; depths beyond are not scored, and predictions are clipped.
        eval_crop: ``eigen``: depth is scored inside Eigen's crop of NYU only; ``none``: everywhere.
        source: where to get it.
        licence: under which terms.
        layout: how the data root must lie, shown when it does not.

    Raises:
        InputError: a field that makes no sense.
    """

    name: str
    title: str
    reader: str
    tasks: list[str]
    splits: list[str]
    train: str
    held_out: str
    classes: list[str] = field(default_factory=list)
    void: int = 255
    depth_unit: float = 0.001
    min_depth: float = 0.1
    max_depth: float = 10.0
    eval_crop: str = "none"
    source: str
    licence: str
    layout: str

    def __post_init__(self) -> None:
        where = f"dataset card '{self.name}'"
        for split in (self.train, self.held_out):
            if split not in self.splits:
                raise InputError(f"{where}: split '{split}' is not one of its splits")
        if self.eval_crop not in EVAL_CROPS:
            raise InputError(f"{where}: eval_crop is one of {', '.join(EVAL_CROPS)}")
        if not 0 < self.min_depth < self.max_depth or not self.depth_unit > 0:
            raise InputError(f"{where}: needs 0 < min_depth < max_depth and a positive depth_unit")

    def check(self, split: str, task: str) -> None:
        """Refuse a split or a task that the card does not name.

        Raises:
            InputError: lists the valid ones.
        """
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        if task not in self.tasks:
            raise InputError(
                f"{self.title} has no labels for {task}, only for {' '.join(self.tasks)}"
            )


def image_card_names() -> list[str]:
    """Names of the shipped cards of labelled pictures."""
    return sorted(path.stem for path in (resource_dir("data") / "images").glob("*.yaml"))


def load_image_card(name: str) -> ImageCard:
    """Load a shipped card of labelled pictures.

    Raises:
        InputError: no card of that name (lists them), or a card with a wrong field.
    """
    names = image_card_names()
    if name not in names:
        raise unknown_name("data set of labelled pictures", name, names)
    return load_config(ImageCard, resource_dir("data") / "images" / f"{name}.yaml")
