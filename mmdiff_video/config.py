"""Typed configuration: a frozen dataclass per component, one YAML file, ``key=value`` overrides.

Every key is checked against the dataclass; an unknown one raises and names the nearest valid key,
so that a typo never trains the wrong thing silently. A field may have variants: which dataclass it
is follows from another key (``aggregation: adaptive`` makes ``aggregator`` an ``AdaptiveConfig``).
The type of a field decides what a value means: a text is taken as it stands there, ``no``,
``2024_01`` and ``${HOME}`` too. That is why this is not OmegaConf or the like, which read a syntax
of their own (``${...}``, ``???``) into every text.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from mmdiff_video.config_values import build, default_values, lay_over, plain, read_values
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.files import write_text
from mmdiff_video.yaml_text import Written, as_written, read_yaml, to_yaml, written

logger = logging.getLogger(__name__)

T = TypeVar("T")

Override = str | tuple[str, Any]
"""``key=value`` as a user types it: a text, a number, or a list or mapping in YAML; or a key with a
value that is taken as it is, which is what a flag or a path gives."""


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
    """What was written in one place; ``strict`` where a key of another variant is a mistake."""

    where: str
    values: dict[str, Any]
    strict: bool = False

    def get(self, key: str) -> Any:
        """Look up a dotted key: a text, a dict or a list; None where nothing is said of it."""
        value: Any = self.values
        for part in key.split("."):
            value = value.value if isinstance(value, Written) else value
            value = value.get(part) if isinstance(value, dict) else None
        return value.text if isinstance(value, Written) else value


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
        said = [layer.get(key) for layer in [*self._file, *self._overrides]]
        return next((value for value in reversed(said) if value is not None), None)

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
        layers = [_Layer("base", as_written(base))] if base else []
        layers += [*self._file, *self._overrides]
        schemas: dict[str, type] = {}
        for name, variants in _variants(schema).items():
            chosen = default_values(schema, {})[variants.chosen_by]
            for layer in layers:
                chosen = layer.get(variants.chosen_by) or chosen
            schemas[name] = variants.schema(str(chosen))
        merged = default_values(schema, schemas)
        for layer in layers:
            own = _of_chosen_variants(layer, schema, schemas)
            values = read_values(own, schema, layer.where, schemas=schemas)
            merged = lay_over(merged, values, layer.where)
        try:
            return build(merged, schema, schemas)
        except ValueError as error:  # the dataclass's own validation
            if isinstance(error, InputError):
                raise
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
    write_text(path, to_yaml(plain(config)))


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
        content = read_yaml(file)
    except FileNotFoundError:
        raise InputError(f"no config file '{file}'") from None
    if content is None or (isinstance(content, Written) and content.text is None):
        content = {}
    if not isinstance(content, dict):
        raise InputError(f"{file}: a config must be a mapping of keys to values")
    return _Layer(str(file), content)


def _read_override(item: Override) -> _Layer:
    if isinstance(item, tuple):
        key, where = item[0], f"setting '{item[0]}'"
        value: Any = as_written(item[1])
    else:
        key, separator, text = item.partition("=")
        where = f"override '{item if len(item) <= 60 else f'{item[:57]}...'}'"
        if not separator or not all(key.split(".")):
            raise InputError(f"{where} is not of the form key=value")
        value = written(text, where)
    for part in reversed(key.split(".")):
        value = {part: value}
    return _Layer(where, value, strict=True)


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
        given = given.value if isinstance(given, Written) else given
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
