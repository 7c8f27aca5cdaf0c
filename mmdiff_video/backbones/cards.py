"""The shipped cards: one YAML file in ``configs/backbones`` describes one registered backbone."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmdiff_video.backbones.types import BackboneDefaults
from mmdiff_video.config import load_config
from mmdiff_video.errors import unknown_name
from mmdiff_video.resources import resource_dir, weights_dir

#: Ending of the names under which the built-in backbones have random weights, whatever is shipped.
RANDOM = "-random"

#: ``laptop``: minutes on a few CPU cores; ``gpu``: the size of published models.
SCALES = ("laptop", "gpu")


def check_scale(scale: str, where: str) -> str:
    """Check a scale and return it; ``where`` names it in the message.

    Raises:
        InputError: it is not one of :data:`SCALES`.
    """
    if scale not in SCALES:
        raise unknown_name(where, scale, SCALES)
    return scale


@dataclass(frozen=True)
class BackboneCard:
    """One file of ``configs/backbones``.

    Attributes:
        source: hub id; None for a built-in backbone, whose trained weights come with the package;
            without them, and under its name with ``-random`` behind, it is built on this machine.
        pipeline: diffusers pipeline class, the key that chooses the family.
        scale: what the model is meant to run on, one of :data:`SCALES`: which of the shipped
            configs is the default for what reads it.
        defaults: see :class:`BackboneDefaults`.
        transformer, vae: what the model's own ``config.json`` files say, at least what
            :meth:`Family.layout` reads and what tells the model from others with its pipeline;
            for a built one all of it.
        build: what else the builder needs; empty for downloaded ones.
    """

    source: str | None
    pipeline: str
    scale: str
    defaults: BackboneDefaults
    transformer: dict[str, Any]
    vae: dict[str, Any]
    build: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_scale(self.scale, "scale of a backbone")


@cache
def cards() -> dict[str, BackboneCard]:
    """Read all shipped cards, by name."""
    folder = resource_dir("configs") / "backbones"
    found = {path.stem: load_config(BackboneCard, path) for path in sorted(folder.glob("*.yaml"))}
    twins = {f"{name}{RANDOM}": card for name, card in found.items() if card.source is None}
    return dict(sorted((found | twins).items()))


def backbone_names() -> list[str]:
    """Names of the registered backbones."""
    return list(cards())


def load_card(name: str) -> BackboneCard:
    """Read the shipped card of a registered backbone.

    Raises:
        InputError: an unknown name; lists the valid ones.
    """
    if name not in cards():
        raise unknown_name("backbone", name, backbone_names())
    return cards()[name]


def shipped_weights(name: str) -> Path | None:
    """Find the trained weights that come with the package for a registered backbone, if any."""
    folder = weights_dir() / name
    return folder if (folder / "model_index.json").is_file() else None


def backbone_source(name: str) -> str | None:
    """Hub id of a registered backbone; None for a built-in one."""
    return load_card(name).source
