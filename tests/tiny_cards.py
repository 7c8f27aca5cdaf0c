"""Members of every family small enough to build and train in a test."""

from mmdiff_video.backbones.cards import BackboneCard, load_card
from mmdiff_video.backbones.families import MODULES, families, family_of
from mmdiff_video.backbones.family import Family

#: Module of the table -> its row.
ROWS: dict[str, Family] = dict(zip(MODULES, dict.fromkeys(families().values()), strict=True))


def tiny_card(name: str) -> BackboneCard:
    """The tiny member of a nano backbone's family."""
    return family_of(load_card(name).pipeline, name).tiny()
