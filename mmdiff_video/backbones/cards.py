"""What is known of a backbone before its weights: the shipped YAML, or a folder's own configs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.hub import fetch, is_hub_id
from mmdiff_video.backbones.taps import resolve_taps, spread
from mmdiff_video.backbones.types import BackboneDefaults, Layout
from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.resources import resource_dir, weights_dir

#: Written beside model_index.json by whoever makes a folder for this toolkit: ``untrained``,
#: ``scale`` and, optionally, ``defaults``.
FOLDER_CARD = "mmdiff.json"

#: Ending of the names under which the built-in backbones have random weights, whatever is shipped.
RANDOM = "-random"


#: ``laptop``: minutes on a few CPU cores; ``gpu``: the size of published models.
SCALES = ("laptop", "gpu")


def check_scale(scale: str, where: str) -> str:
    """Return a scale.

    Raises:
        InputError: it is not one of :data:`SCALES`.
    """
    if scale not in SCALES:
        raise unknown_name(f"{where} of a backbone", scale, SCALES)
    return scale


@dataclass(frozen=True)
class BackboneCard:
    """One file of ``configs/backbones``.

    Attributes:
        source: hub id; None for a built-in backbone, whose trained weights come with the package;
            without them, and under its name with ``-random`` behind, it is built on this machine.
        pipeline: diffusers pipeline class, the key that chooses the adapter.
        scale: what the model is meant to run on, one of :data:`SCALES`: which of the shipped
            configs is the default for what reads it.
        defaults: see :class:`BackboneDefaults`.
        transformer, vae: what the model's own ``config.json`` files say, at least what
            :meth:`Backbone.layout` reads and what tells the model from others with its pipeline;
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
        check_scale(self.scale, "scale")


def adapters() -> dict[str, type[Backbone]]:
    """The one table: diffusers pipeline class -> adapter. A new backbone adds its line here."""
    from mmdiff_video.backbones.families.flux import FluxBackbone
    from mmdiff_video.backbones.families.wan import WanBackbone

    return {"WanPipeline": WanBackbone, "FluxPipeline": FluxBackbone}


def adapter_for(pipeline: str, where: str) -> type[Backbone]:
    """Find the adapter of a pipeline class.

    Raises:
        InputError: there is none; lists those there are.
    """
    table = adapters()
    if pipeline not in table:
        raise InputError(
            f"'{where}' is a {pipeline}, which has no backbone adapter; valid: {', '.join(table)}"
        )
    return table[pipeline]


@cache
def _cards() -> dict[str, BackboneCard]:
    folder = resource_dir("configs") / "backbones"
    cards = {path.stem: load_config(BackboneCard, path) for path in sorted(folder.glob("*.yaml"))}
    twins = {f"{name}{RANDOM}": card for name, card in cards.items() if card.source is None}
    return dict(sorted((cards | twins).items()))


def backbone_names() -> list[str]:
    """Names of the registered backbones."""
    return list(_cards())


def load_card(name: str) -> BackboneCard:
    """Read the shipped card of a registered backbone.

    Raises:
        InputError: an unknown name; lists the valid ones.
    """
    if name not in _cards():
        raise unknown_name("backbone", name, backbone_names())
    return _cards()[name]


def shipped_weights(name: str) -> Path | None:
    """Find the trained weights that come with the package for a registered backbone, if any."""
    folder = weights_dir() / name
    return folder if (folder / "model_index.json").is_file() else None


def backbone_source(name: str) -> str | None:
    """Hub id of a registered backbone; None for a built-in one."""
    return load_card(name).source


@dataclass(frozen=True)
class Description:
    """A backbone's facts, read without loading weights.

    Attributes:
        adapter: the class that will drive it.
        layout: blocks and geometry.
        defaults: see :class:`BackboneDefaults`.
        scale: see :class:`BackboneCard`.
        untrained: whether its weights are random.
    """

    adapter: type[Backbone]
    layout: Layout
    defaults: BackboneDefaults
    scale: str
    untrained: bool


def describe(name_or_path: str) -> Description:
    """Describe a registered name from its shipped card, a hub id or folder from its config files.

    Raises:
        InputError: an unknown name, a folder that is no diffusers pipeline, an unreachable hub id.
    """
    if name_or_path in backbone_names():
        if shipped := shipped_weights(name_or_path):
            return describe_folder(shipped)
        card = load_card(name_or_path)
        adapter = adapter_for(card.pipeline, name_or_path)
        layout = adapter.layout(card.transformer, card.vae)
        return Description(
            adapter, layout, card.defaults, card.scale, untrained=card.source is None
        )
    if Path(name_or_path).is_dir():
        return describe_folder(Path(name_or_path))
    if is_hub_id(name_or_path):
        folder = fetch(
            name_or_path, ["model_index.json", FOLDER_CARD, "transformer/config.json", "vae/*.json"]
        )
        return describe_folder(folder, hub_id=name_or_path)
    raise unknown_name(
        "backbone", name_or_path, [*backbone_names(), "a hub id (org/name)", "a diffusers folder"]
    )


def describe_folder(folder: Path, hub_id: str | None = None) -> Description:
    """Describe a diffusers folder; ``hub_id`` says where it was fetched from.

    Raises:
        InputError: no readable model_index.json or config.json, or a pipeline without an adapter.
    """
    index = _read_json(folder / "model_index.json")
    where = hub_id or str(folder)
    adapter = adapter_for(str(index.get("_class_name")), where)
    if (index.get("transformer_2") or [None])[0] is not None:  # Wan 2.2 A14B
        raise InputError(
            f"'{where}' denoises with two transformers in turn; give a pipeline that has one"
        )
    transformer = _read_json(folder / "transformer" / "config.json")
    try:
        layout = adapter.layout(transformer, _read_json(folder / "vae" / "config.json"))
    except KeyError as error:
        raise InputError(f"{folder}: transformer/config.json lacks {error}") from None
    own = _read_json(folder / FOLDER_CARD) if (folder / FOLDER_CARD).is_file() else {}
    if "defaults" in own:
        # version 0.1 wrote no scale, and the width of an aggregator, which is none of a backbone's
        given = {key: value for key, value in own["defaults"].items() if key != "hidden_width"}
        defaults, scale = load_config(BackboneDefaults, base=given), "laptop"
    else:
        card = _card_of(hub_id, transformer, adapter.family)
        defaults, scale = card.defaults, card.scale
    return Description(
        adapter,
        layout,
        _fitting(defaults, layout),
        check_scale(str(own.get("scale", scale)), f"'scale' in {folder / FOLDER_CARD}"),
        untrained=bool(own.get("untrained", False)),
    )


def load_defaults(name_or_path: str) -> BackboneDefaults:
    """Read a backbone's defaults without loading its weights."""
    return describe(name_or_path).defaults


def _card_of(hub_id: str | None, transformer: Mapping[str, Any], family: str) -> BackboneCard:
    """Find the card of a model: its own, that of the model it is a copy of, or the family's.

    Args:
        hub_id: where it was fetched from, if it was.
        transformer: what its transformer/config.json says; copies and fine-tuned models agree with
            their model's card.
        family: name of the card whose defaults fit any model with this pipeline.
    """
    cards = _cards()
    for card in cards.values():
        if card.source is not None and card.source == hub_id:
            return card
    # the family's first, should others have the same transformer
    for card in (cards[family], *cards.values()):
        agrees = card.transformer.items() <= transformer.items()
        if agrees and card.pipeline == cards[family].pipeline:
            return card
    return cards[family]


def _fitting(defaults: BackboneDefaults, layout: Layout) -> BackboneDefaults:
    """Spread as many taps over the depth where the family's own do not exist in this model."""
    try:
        resolve_taps(defaults.taps, layout.taps, layout.default_stream)
    except InputError:
        stream = [spec.name for spec in layout.taps if spec.stream == layout.default_stream]
        chosen = spread(len(defaults.taps), len(stream))
        return replace(defaults, taps=tuple(stream[i] for i in chosen))
    return defaults


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"'{path.parent}' is not a complete diffusers folder: it has no {path.name}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object")
    return content
