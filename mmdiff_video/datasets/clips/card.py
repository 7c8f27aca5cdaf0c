"""Dataset cards: what a data set is, how its folder lies, and the scale of its world."""

from dataclasses import dataclass

from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.resources import resource_dir

WORLD_SCALES = ("unit_baseline", "metric")


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """One posed-video data set, loaded from ``data/NAME.yaml``.

    "World units" below are those after ``world_scale`` has been applied; "file units" are those of
    the camera files.

    Attributes:
        name: how the user asks for it.
        title: its full name, for tables.
        reader: the layout, a key of :data:`mmdiff_video.datasets.loading.CLIP_READERS`.
        splits: split name -> how many clips are used unless the user says otherwise; None: all.
        world_scale: ``unit_baseline`` divides by the distance between the first and the last input
            camera (as pixelSplat does with its two contexts); ``metric`` leaves the file units.
        min_baseline: file units; a sampling whose first and last input camera are closer than this
            is refused.
        near, far: world units; the depths between which surfaces are sought.
        scale_cap: world units; the largest standard deviation a Gaussian may have.
        min_span, max_span: frames from the first to the last input frame, both included.
        source: where to get it.
        licence: under which terms.
        layout: how the data root must lie, shown when it does not.

    Raises:
        InputError: a field that makes no sense.
    """

    name: str
    title: str
    reader: str
    splits: dict[str, int | None]
    world_scale: str
    min_baseline: float
    near: float
    far: float
    scale_cap: float
    min_span: int
    max_span: int
    source: str
    licence: str
    layout: str

    def __post_init__(self) -> None:
        where = f"dataset card '{self.name}'"
        if self.world_scale not in WORLD_SCALES:
            raise InputError(
                f"{where}: world_scale '{self.world_scale}' is not one of {', '.join(WORLD_SCALES)}"
            )
        if not 0 < self.near < self.far:
            raise InputError(f"{where}: needs 0 < near < far, not {self.near} and {self.far}")
        if not self.scale_cap > 0 or not self.min_baseline > 0:
            raise InputError(f"{where}: scale_cap and min_baseline must be positive")
        if not 2 <= self.min_span <= self.max_span:
            raise InputError(
                f"{where}: needs 2 <= min_span <= max_span, not {self.min_span}, {self.max_span}"
            )
        if not self.splits:
            raise InputError(f"{where}: names no split")

    def check_split(self, split: str) -> None:
        """Refuse a split that the card does not name.

        Raises:
            InputError: lists the valid ones.
        """
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)


def card_names() -> list[str]:
    """Names of the shipped cards of posed clips."""
    return sorted(path.stem for path in resource_dir("data").glob("*.yaml"))


def load_card(name: str) -> DatasetCard:
    """Load a shipped card of posed clips.

    Raises:
        InputError: no card of that name (lists them), or a card with a wrong field.
    """
    names = card_names()
    if name not in names:
        raise unknown_name("data set", name, names)
    return load_config(DatasetCard, resource_dir("data") / f"{name}.yaml")
