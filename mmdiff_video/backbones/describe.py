"""What is known of a backbone before its weights: its card, or a folder's own config files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from mmdiff_video.backbones.cards import (
    BackboneCard,
    backbone_names,
    cards,
    check_scale,
    load_card,
    shipped_weights,
)
from mmdiff_video.backbones.families import family_of
from mmdiff_video.backbones.family import Family
from mmdiff_video.backbones.hub import FOLDER_CARD, INDEX, fetch, is_hub_id
from mmdiff_video.backbones.index import read_index
from mmdiff_video.backbones.model_files import read_config
from mmdiff_video.backbones.taps import resolve_taps, spread
from mmdiff_video.backbones.types import BackboneDefaults, Layout
from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError, unknown_name

_LAPTOP_WIDTH = 256
"""A folder of version 0.1 whose aggregator was to be wider than this holds a full-size model."""

_CHECKPOINTS = (".safetensors", ".gguf", ".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Description:
    """A backbone's facts, read without loading weights.

    Attributes:
        family: the row of the table that describes it.
        layout: blocks and geometry.
        defaults: see :class:`BackboneDefaults`.
        scale: see :class:`BackboneCard`.
        untrained: whether its weights are random.
    """

    family: Family
    layout: Layout
    defaults: BackboneDefaults
    scale: str
    untrained: bool


def describe(name_or_path: str) -> Description:
    """Describe a registered name from its shipped card, a hub id or folder from its config files.

    Raises:
        InputError: an unknown name, a file, a folder that is no diffusers pipeline, an unreachable
            hub id.
    """
    if name_or_path in backbone_names():
        if shipped := shipped_weights(name_or_path):
            return describe_folder(shipped)
        card = load_card(name_or_path)
        family = family_of(card.pipeline, name_or_path)
        layout = family.layout(card.transformer, card.vae)
        return Description(family, layout, card.defaults, card.scale, untrained=card.source is None)
    try:
        is_folder, is_file = Path(name_or_path).is_dir(), Path(name_or_path).is_file()
    except (OSError, ValueError):  # a name that no file can have
        is_folder = is_file = False
    if is_folder:
        return describe_folder(Path(name_or_path))
    if is_file or name_or_path.endswith(_CHECKPOINTS):
        raise InputError(
            f"'{name_or_path}' is a single file: a backbone is a diffusers folder, with {INDEX} and"
            " a folder for each component; quantised and pickled weights are not read"
        )
    if is_hub_id(name_or_path):
        folder = fetch(name_or_path, [INDEX, FOLDER_CARD, "transformer/config.json", "vae/*.json"])
        return describe_folder(folder, hub_id=name_or_path)
    raise unknown_name(
        "backbone", name_or_path, [*backbone_names(), "a hub id (org/name)", "a diffusers folder"]
    )


def describe_folder(folder: Path, hub_id: str | None = None) -> Description:
    """Describe a diffusers folder; ``hub_id`` says where it was fetched from.

    Raises:
        InputError: no readable model_index.json or config.json, or a pipeline of no known family.
    """
    family = read_index(folder, hub_id).family
    transformer = read_config(folder / "transformer" / "config.json")
    vae = read_config(folder / "vae" / "config.json")
    card = _card_of(hub_id, transformer, family.card)
    try:
        layout = family.layout(transformer, vae)
        own = _own_card(folder / FOLDER_CARD, card)
    except InputError as error:
        raise InputError(f"'{hub_id or folder}': {error}") from None
    return Description(
        family, layout, _fitting(own.defaults, layout), own.scale, untrained=own.untrained
    )


def load_defaults(name_or_path: str) -> BackboneDefaults:
    """Read a backbone's defaults without loading its weights."""
    return describe(name_or_path).defaults


def _card_of(hub_id: str | None, transformer: Mapping[str, Any], fallback: str) -> BackboneCard:
    """Find the card of a model: its own, that of the model it is a copy of, or the family's.

    Args:
        hub_id: where it was fetched from, if it was.
        transformer: what its transformer/config.json says; copies and fine-tuned models agree with
            their model's card.
        fallback: name of the family's card, whose defaults fit any model with this pipeline.
    """
    known = cards()
    for card in known.values():
        if card.source is not None and card.source == hub_id:
            return card
    # the family's first, should others have the same transformer
    for card in (known[fallback], *known.values()):
        agrees = card.transformer.items() <= transformer.items()
        if agrees and card.pipeline == known[fallback].pipeline:
            return card
    return known[fallback]


def _fitting(defaults: BackboneDefaults, layout: Layout) -> BackboneDefaults:
    """Spread as many taps over the depth where the family's own do not exist in this model."""
    try:
        resolve_taps(defaults.taps, layout.taps, layout.default_stream)
    except InputError:
        stream = [spec.name for spec in layout.taps if spec.stream == layout.default_stream]
        chosen = spread(len(defaults.taps), len(stream))
        return replace(defaults, taps=tuple(stream[i] for i in chosen))
    return defaults


class _OwnCard(NamedTuple):
    """What a folder made for this toolkit says of itself."""

    defaults: BackboneDefaults
    scale: str
    untrained: bool


def _own_card(path: Path, card: BackboneCard) -> _OwnCard:
    """Read :data:`FOLDER_CARD`; what it does not say, ``card`` does."""
    content = read_config(path) if path.is_file() else {}
    untrained = content.get("untrained", False)
    if not isinstance(untrained, bool):
        raise InputError(f"'untrained' in {FOLDER_CARD} must be true or false, not {untrained!r}")
    defaults, scale = card.defaults, card.scale
    if "defaults" in content:
        if not isinstance(content["defaults"], dict):
            raise InputError(
                f"'defaults' in {FOLDER_CARD} must be an object, not"
                f" {str(content['defaults'])[:80]}"
            )
        given = dict(content["defaults"])
        # version 0.1 wrote no scale, but the width of an aggregator, which is none of a backbone's
        width = given.pop("hidden_width", 0)
        scale = "gpu" if isinstance(width, int) and width > _LAPTOP_WIDTH else "laptop"
        try:
            defaults = load_config(BackboneDefaults, base=given)
        except InputError as error:
            raise InputError(f"'defaults' in {FOLDER_CARD}: {error}") from None
    scale = check_scale(str(content.get("scale", scale)), f"'scale' in {FOLDER_CARD}")
    return _OwnCard(defaults, scale, untrained)
