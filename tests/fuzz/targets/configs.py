"""Cards, config files and overrides."""

import dataclasses
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.harness import Case, require, target
from fuzz.mutate import VALUES, WORDS, break_text, same_text

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.config import load_config, save_config
from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.errors import InputError
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.pretraining.config import DiTConfig, VAEConfig
from mmdiff_video.resources import resource_dir

_YAML = (
    *("{", "}", "[1, 2", "- x", "a: b: c", "? x", "|", ">", "%YAML 9", "---", "...", "@x", "`x"),
    *(
        "!!python/name:os.system",
        "!!binary aGk=",
        "!!set {a, b}",
        "2001-01-01",
        "0o17",
        "1:30",
        "~",
    ),
    *("&a [*a]", "<<: {a: 1}", ".nan", ".inf", "-.inf", "1e999", "0x1F", "[[[[[[", "\t x: 1"),
)
_ALL = (*WORDS, *_YAML)

SCHEMAS: dict[str, type] = {
    "3dgs": NVSConfig,
    "dense": DenseConfig,
    "pretrain/nano-wan-vae": VAEConfig,
    "pretrain/nano-wan-dit": DiTConfig,
}
"""Shipped config -> what it is read as."""


@cache
def _shipped(schema: type) -> list[Path]:
    data, configs = resource_dir("data"), resource_dir("configs")
    places = {
        DatasetCard: sorted(data.glob("*.yaml")),
        ImageCard: sorted((data / "images").glob("*.yaml")),
        BackboneCard: sorted((configs / "backbones").glob("*.yaml")),
    }
    return places.get(schema) or [
        configs / f"{name}.yaml" for name, found in SCHEMAS.items() if found is schema
    ]


def _read_broken(case: Case, schema: type) -> Any:
    rng = case.rng
    source = rng.choice(_shipped(schema))
    text = source.read_text(encoding="utf-8")
    same = rng.random() < 0.1
    path = case.folder / "x.yaml"
    path.write_bytes(same_text(rng, text, spaces=False) if same else break_text(rng, text, _ALL))
    was, now = text.splitlines(), path.read_bytes().decode("utf-8", "replace").splitlines()
    case.note(source.name, [line for line in now if line not in was][:6])
    found = None
    with case.refusable(InputError):
        found = load_config(schema, path)
        require(not same or found == load_config(schema, source), "a good file says otherwise")
    require(not (same and case.refusal), f"a good file is refused: {case.refusal}")
    return found


@target(cases=60)
def clip_cards(case: Case) -> None:
    """Cards of posed clips, of broken text."""
    card = _read_broken(case, DatasetCard)
    if card is not None:
        numbers = (card.min_baseline, card.near, card.far, card.scale_cap)
        require(all(math.isfinite(n) and n > 0 for n in numbers), f"numbers {numbers}")
        require(card.near < card.far, "near beyond far")
        require(2 <= card.min_span <= card.max_span, "spans")
        counts = [n for n in card.splits.values() if n is not None]
        require(all(n > 0 for n in counts), f"splits {card.splits}")


@target(cases=60)
def picture_cards(case: Case) -> None:
    """Cards of labelled pictures, of broken text."""
    card = _read_broken(case, ImageCard)
    if card is not None:
        numbers = (card.depth_unit, card.min_depth, card.max_depth)
        require(all(math.isfinite(n) and n > 0 for n in numbers), f"numbers {numbers}")
        require({card.train, card.held_out} <= set(card.splits), "splits")
        require(0 <= card.void <= 255, f"void {card.void}")


@target(cases=40)
def backbone_cards(case: Case) -> None:
    """Cards of backbones, of broken text."""
    card = _read_broken(case, BackboneCard)
    if card is not None:
        defaults = card.defaults
        require(all(0 <= t <= 1 for t in defaults.timesteps), f"timesteps {defaults.timesteps}")
        require(defaults.taps, "no taps")
        sizes = (defaults.height, defaults.width, defaults.frames, defaults.steps)
        require(all(n > 0 for n in sizes), f"sizes {sizes}")
        require(defaults.text_tokens > 0, f"text_tokens {defaults.text_tokens}")
        require(math.isfinite(defaults.guidance), f"guidance {defaults.guidance}")


@target(cases=40)
def config_files(case: Case) -> None:
    """Config files of every kind of run, of broken text."""
    schema = case.rng.choice(sorted(SCHEMAS.values(), key=lambda s: s.__name__))
    found = _read_broken(case, schema)
    if found is not None:
        _require_round_trip(case, found)


def _keys(schema: type) -> list[str]:
    keys = []
    for f in dataclasses.fields(schema):
        keys.append(f.name)
        if dataclasses.is_dataclass(f.type) and isinstance(f.type, type):
            keys += [f"{f.name}.{key}" for key in _keys(f.type)]
    return keys


def _override(rng: random.Random, schema: type) -> str | tuple[str, Any]:
    key = rng.choice(_keys(schema))
    if rng.random() < 0.15:
        broken = (
            key[:-1],
            f"{key}.x",
            f"{key}.0",
            f".{key}",
            f"{key}.",
            "",
            rng.choice(_ALL),
            f"{key}[0]",
        )
        key = rng.choice(broken)
    if rng.random() < 0.25:
        return key, rng.choice((*VALUES, Path("x"), (1, 2), b"x"))
    numbers = (
        "0",
        "1",
        "-1",
        "2",
        "7",
        "64",
        "0.5",
        "1e-4",
        "null",
        "[1,2]",
        "[1, 2, 3]",
        "{a: 1}",
    )
    value = rng.choice((*_ALL, *numbers, *numbers, *numbers))
    return rng.choice((f"{key}={value}", f"{key}={value}", f"{key}={value}", f"{key} {value}", key))


@target(cases=60)
def overrides(case: Case) -> None:
    """Settings as a user types them, over every config; what is taken is saved and read back."""
    rng = case.rng
    name = rng.choice(sorted(SCHEMAS))
    words = [_override(rng, SCHEMAS[name]) for _ in range(rng.choice((1, 1, 2)))]
    case.note(name, words)
    with case.refusable(InputError):
        found = load_config(SCHEMAS[name], None, words)
        _require_round_trip(case, found)
        _require_finite(found)


def _require_round_trip(case: Case, config: Any) -> None:
    path = case.folder / "saved.yaml"
    save_config(config, path)
    again = load_config(type(config), path)
    require(_plain(again) == _plain(config), "saved and read back it is another one")


def _plain(value: Any) -> Any:
    """Compared by words, so that a NaN equals itself."""
    return repr(value)


def _require_finite(config: Any, prefix: str = "") -> None:
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            _require_finite(value, f"{prefix}{f.name}.")
        elif isinstance(value, float):
            require(math.isfinite(value), f"{prefix}{f.name} is {value}")
