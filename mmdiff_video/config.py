"""Typed configuration: a frozen dataclass per component, one YAML file, ``key=value`` overrides.

Every key is checked against the dataclass; an unknown one raises and names the nearest valid key,
so that a typo never trains the wrong thing silently.
"""

import dataclasses
import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, ListConfig, OmegaConf, TupleConfig
from omegaconf.errors import OmegaConfBaseException

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_text

logger = logging.getLogger(__name__)

T = TypeVar("T")


def load_config(
    schema: type[T],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    base: dict | None = None,
) -> T:
    """Build a config: schema defaults, then ``base``, then the YAML file, then the overrides.

    Args:
        schema: a dataclass; nested dataclasses become nested keys.
        file: a YAML file whose keys are a subset of the schema's.
        overrides: ``key=value`` strings; nested keys with dots (``train.lr=3e-4``), items of lists
            by number (``stages.0.steps=100``), values in YAML.
        base: plain nested values laid over the schema's defaults before the file.

    Raises:
        InputError: an unreadable file, an unknown key, a value of the wrong type, or a value that
            the dataclass's own validation refuses.
    """
    layers: list[tuple[str, Any]] = []
    if base:
        layers.append(("base", base))
    if file is not None:
        try:
            content = OmegaConf.to_container(OmegaConf.load(file))
        except FileNotFoundError:
            raise InputError(f"no config file '{file}'") from None
        except Exception as error:  # yaml raises many kinds
            raise InputError(f"{file}: not a readable YAML config: {error}") from None
        if not isinstance(content, dict):
            raise InputError(f"{file}: a config must be a mapping of keys to values")
        layers.append((str(file), content))
    for item in overrides:
        key, separator, _ = item.partition("=")
        if not separator or not key:
            raise InputError(f"override '{item}' is not of the form key=value")
        try:
            values = OmegaConf.to_container(OmegaConf.from_dotlist([item]))
        except Exception as error:
            raise InputError(f"override '{item}': {error}") from None
        layers.append((f"override '{item}'", values))

    merged = OmegaConf.structured(schema)
    for where, values in layers:
        _check_keys(values, schema, where)
        try:
            merged = OmegaConf.merge(merged, _whole_lists(values, merged, where))
        except OmegaConfBaseException as error:
            key = f" (key '{error.full_key}')" if error.full_key else ""
            raise InputError(f"{where}: {str(error).strip().splitlines()[0]}{key}") from None
        except TypeError as error:  # a mapping where a list belongs, or the reverse
            raise InputError(f"{where}: {error}") from None
    try:
        return cast(T, OmegaConf.to_object(cast(DictConfig, merged)))
    except InputError:
        raise
    except (OmegaConfBaseException, ValueError) as error:  # the dataclass's own validation
        raise InputError(f"config: {str(error).strip().splitlines()[0]}") from None


def save_config(config: Any, path: Path) -> None:
    """Write a config dataclass as YAML that :func:`load_config` reads back unchanged."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def record_config(config: Any, path: Path) -> None:
    """Write the config of a run; where it has had another one, log what changes from here on."""
    if path.is_file():
        try:
            before = load_config(type(config), path)
        except InputError:  # of an older version: there is no telling
            before = config
        changes = _differences(dataclasses.asdict(before), dataclasses.asdict(config))
        if changes:
            logger.warning("from here on with other settings: %s", "; ".join(changes))
    save_config(config, path)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Say ``key: old -> new`` for every leaf that differs."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [f"{key}: {old} -> {new}"]
    keys = {**old, **new}
    return [
        line
        for name in keys
        for line in _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    ]


def valid_keys(schema: type, prefix: str = "") -> list[str]:
    """List every key of a schema in dotted form (``train.lr``), leaves and groups."""
    keys: list[str] = []
    for field in dataclasses.fields(schema):
        keys.append(prefix + field.name)
        if dataclasses.is_dataclass(field.type):
            keys += valid_keys(cast(type, field.type), f"{prefix}{field.name}.")
    return keys


def _whole_lists(values: Any, current: Any, where: str) -> Any:
    """Write ``{"1": value}`` over a list as the list with its second item changed."""
    if not isinstance(values, dict):
        return values
    if isinstance(current, DictConfig):
        return {key: _whole_lists(value, current.get(key), where) for key, value in values.items()}
    if not isinstance(current, ListConfig | TupleConfig):
        return values
    whole: list[Any] = list(cast(Any, OmegaConf.to_container(current)))
    for number, value in values.items():
        if not str(number).isdecimal() or int(number) >= len(whole):
            raise InputError(f"{where}: the list has items 0 to {len(whole) - 1}, not '{number}'")
        changed = OmegaConf.merge({"item": whole[int(number)]}, {"item": value})
        whole[int(number)] = cast(Any, OmegaConf.to_container(changed))["item"]
    return whole


def _check_keys(values: dict[Any, Any], schema: type, where: str, prefix: str = "") -> None:
    known = {field.name: field.type for field in dataclasses.fields(schema)}
    for key, value in values.items():
        if key not in known:
            dotted = f"{prefix}{key}"
            names = valid_keys(schema, prefix)
            nearest = difflib.get_close_matches(dotted, names, n=1, cutoff=0.4)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            raise InputError(
                f"{where}: unknown config key '{dotted}': {hint}"
                f"valid here: {', '.join(n for n in names if '.' not in n[len(prefix) :])}"
            )
        if dataclasses.is_dataclass(known[key]) and isinstance(value, dict):
            _check_keys(value, cast(type, known[key]), where, f"{prefix}{key}.")
