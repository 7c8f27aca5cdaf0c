"""Typed configuration: a frozen dataclass per component, one YAML file, ``key=value`` overrides.

Every key is checked against the dataclass; an unknown one raises and names the nearest valid key,
so that a typo never trains the wrong thing silently. A field may have variants: which dataclass it
is follows from another key (``aggregation: adaptive`` makes ``aggregator`` an ``AdaptiveConfig``).
"""

import dataclasses
import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from omegaconf import DictConfig, ListConfig, OmegaConf, TupleConfig, read_write
from omegaconf.errors import OmegaConfBaseException

from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.files import write_text

logger = logging.getLogger(__name__)

T = TypeVar("T")

Override = str | tuple[str, Any]
"""``key=value`` as a user types it, its value in YAML; or a key with a value that is taken as it
is, which is what a flag or a path gives."""


@dataclass(frozen=True)
class Variants:
    """Which dataclass a field is.

    Attributes:
        chosen_by: the key beside the field whose value names the variant.
        schema: name -> dataclass; raises :class:`InputError` for an unknown name.
        known_keys: the keys of all variants. In a file, a key of another variant than the chosen
            one is set aside, so that one file can serve several of them; on the command line it
            is refused.
    """

    chosen_by: str
    schema: Callable[[str], type]
    known_keys: Callable[[], frozenset[str]]

    @classmethod
    def of(cls, chosen_by: str, table: Mapping[str, type], kind: str) -> Self:
        """Make the variants of a table, name -> dataclass; ``kind`` is what messages call one."""

        def schema(name: str) -> type:
            if name not in table:
                raise unknown_name(kind, name, table)
            return table[name]

        def known_keys() -> frozenset[str]:
            return frozenset(f.name for s in table.values() for f in dataclasses.fields(s))

        return cls(chosen_by, schema, known_keys)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the field is declared with: ``field(..., metadata=variants.metadata)``."""
        return {"variants": self}


@dataclass(frozen=True)
class _Layer:
    """Values from one place; ``strict`` where a key of another variant is a mistake."""

    where: str
    values: dict[str, Any]
    strict: bool = False


class ConfigSource:
    """A YAML file and overrides, read once, from which one config or several are built.

    Args:
        file: a YAML file whose keys are a subset of the schema's; None: no file.
        overrides: see :data:`Override`; nested keys with dots (``train.lr=3e-4``), items of lists
            by number (``stages.0.steps=100``).

    Raises:
        InputError: an unreadable file, or an override that is not of the form ``key=value``.
    """

    def __init__(self, file: Path | None = None, overrides: Sequence[Override] = ()):
        self._overrides = [_read_override(item) for item in overrides]
        self._file = [] if file is None else [_read_file(file)]

    def get(self, key: str) -> Any:
        """Look up what the file or the overrides say of a dotted key; None where they say nothing.

        Nothing is checked: that is what :meth:`build` does.
        """
        found = None
        for layer in [*self._file, *self._overrides]:
            value: Any = layer.values
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            found = found if value is None else value
        return found

    def with_file(self, file: Path) -> "ConfigSource":
        """Read a file below the same overrides, in place of the file that there was.

        Raises:
            InputError: it is unreadable.
        """
        other = ConfigSource(file)
        other._overrides = self._overrides
        return other

    def build(self, schema: type[T], base: dict[str, Any] | None = None) -> T:
        """Lay the file and the overrides over ``base``, and that over the schema's defaults.

        Raises:
            InputError: an unknown key, a value of the wrong type, or a value that the dataclass's
                own validation refuses.
        """
        layers = [_Layer("base", base)] if base else []
        layers += [*self._file, *self._overrides]
        schemas: dict[str, type] = {}
        merged = OmegaConf.structured(schema)
        for name, variants in _variants(schema).items():
            chosen = merged.get(variants.chosen_by)
            for layer in layers:
                chosen = layer.values.get(variants.chosen_by, chosen)
            schemas[name] = variants.schema(str(chosen))
            try:
                with read_write(merged):
                    merged[name] = OmegaConf.structured(schemas[name])
            except (OmegaConfBaseException, ValueError) as error:
                raise InputError(f"config: {str(error).strip().splitlines()[0]}") from None
        for layer in layers:
            values = _of_chosen_variants(layer, schema, schemas)
            _check_keys(values, schema, layer.where, schemas)
            try:
                merged = OmegaConf.merge(merged, _whole_lists(values, merged, layer.where))
            except OmegaConfBaseException as error:
                key = f" (key '{error.full_key}')" if error.full_key else ""
                raise InputError(
                    f"{layer.where}: {str(error).strip().splitlines()[0]}{key}"
                ) from None
            except TypeError as error:  # a mapping where a list belongs, or the reverse
                raise InputError(f"{layer.where}: {error}") from None
        try:
            return cast(T, OmegaConf.to_object(cast(DictConfig, merged)))
        except InputError:
            raise
        except (OmegaConfBaseException, ValueError) as error:  # the dataclass's own validation
            raise InputError(f"config: {str(error).strip().splitlines()[0]}") from None


def load_config(
    schema: type[T],
    file: Path | None = None,
    overrides: Sequence[Override] = (),
    base: dict[str, Any] | None = None,
) -> T:
    """Build a config: schema defaults, then ``base``, then the YAML file, then the overrides.

    Args:
        schema: a dataclass; nested dataclasses become nested keys.
        file, overrides: see :class:`ConfigSource`.
        base: plain nested values laid over the schema's defaults before the file.

    Raises:
        InputError: as :class:`ConfigSource` and its :meth:`~ConfigSource.build`.
    """
    return ConfigSource(file, overrides).build(schema, base)


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


def _read_file(file: Path) -> _Layer:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except FileNotFoundError:
        raise InputError(f"no config file '{file}'") from None
    except Exception as error:  # yaml raises many kinds
        raise InputError(f"{file}: not a readable YAML config: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: a config must be a mapping of keys to values")
    return _Layer(str(file), cast(dict[str, Any], content))


def _read_override(item: Override) -> _Layer:
    if isinstance(item, tuple):
        key, value = item
        for part in reversed(key.split(".")):
            value = {part: value}
        return _Layer(f"setting '{key}'", value, strict=True)
    key, separator, _ = item.partition("=")
    if not separator or not key:
        raise InputError(f"override '{item}' is not of the form key=value")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([item]))
    except Exception as error:
        raise InputError(f"override '{item}': {error}") from None
    return _Layer(f"override '{item}'", cast(dict[str, Any], values), strict=True)


def _variants(schema: type) -> dict[str, Variants]:
    return {
        f.name: f.metadata["variants"]
        for f in dataclasses.fields(schema)
        if "variants" in f.metadata
    }


def _of_chosen_variants(layer: _Layer, schema: type, schemas: Mapping[str, type]) -> dict[str, Any]:
    """Set aside the keys that belong to other variants than the chosen ones."""
    values = dict(layer.values)
    for name, variants in _variants(schema).items():
        given = values.get(name)
        if not isinstance(given, dict):
            continue
        own = {f.name for f in dataclasses.fields(schemas[name])}
        foreign = (given.keys() - own) & variants.known_keys()
        if foreign and layer.strict:
            raise InputError(
                f"{layer.where}: '{name}.{min(foreign)}' has no meaning with the chosen"
                f" '{variants.chosen_by}'; valid there: {', '.join(sorted(own)) or 'nothing'}"
            )
        values[name] = {key: value for key, value in given.items() if key not in foreign}
    return values


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


def _keys(schema: type, prefix: str, schemas: Mapping[str, type]) -> list[str]:
    """List every key of a schema in dotted form (``train.lr``), leaves and groups."""
    keys: list[str] = []
    for f in dataclasses.fields(schema):
        keys.append(prefix + f.name)
        inner = schemas.get(f.name, f.type)
        if dataclasses.is_dataclass(inner):
            keys += _keys(cast(type, inner), f"{prefix}{f.name}.", {})
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


def _check_keys(
    values: dict[Any, Any],
    schema: type,
    where: str,
    schemas: Mapping[str, type],
    prefix: str = "",
) -> None:
    known = {f.name: schemas.get(f.name, f.type) for f in dataclasses.fields(schema)}
    for key, value in values.items():
        if key not in known:
            dotted = f"{prefix}{key}"
            names = _keys(schema, prefix, schemas)
            nearest = difflib.get_close_matches(dotted, names, n=1, cutoff=0.4)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            raise InputError(
                f"{where}: unknown config key '{dotted}': {hint}"
                f"valid here: {', '.join(n for n in names if '.' not in n[len(prefix) :])}"
            )
        if dataclasses.is_dataclass(known[key]) and isinstance(value, dict):
            _check_keys(value, cast(type, known[key]), where, {}, f"{prefix}{key}.")
