"""Values of a config between text and dataclass: read by their types, laid over one another, built.

In between they are plain: dicts for dataclasses, lists for lists and tuples, and scalars.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from mmdiff_video.errors import InputError
from mmdiff_video.yaml_text import Written

_LARGEST = 2**63 - 1
"""Integers beyond it have no use as a setting, and make libraries fail in many ways."""

_BOOLS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}

_YAML_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}

_LEAVES: Mapping[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "a text"),
    bool: (lambda text: _BOOLS[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (lambda text: float(_YAML_FLOATS.get(text.lower(), text)), "a number"),
}


def read_values(
    tree: Any, kind: Any, where: str, key: str = "", schemas: Mapping[str, type] | None = None
) -> Any:
    """Read what was written as plain values of a type.

    Args:
        tree: dicts and lists of :class:`Written`.
        kind: a dataclass, or the type of a field of one.
        where: names the file or the override in messages.
        key: of the value, dotted; empty for the whole.
        schemas: the dataclasses of those fields whose own types do not say which.

    Raises:
        InputError: an unknown key, or a value of another type.
    """
    kind, optional = _without_none(kind)
    if isinstance(tree, Written) and kind not in _LEAVES:
        if isinstance(tree.value, InputError):
            raise tree.value
        if isinstance(tree.value, dict | list):
            tree = tree.value
    if isinstance(tree, Written) and tree.text is None and (optional or kind is Any):
        return None
    if dataclasses.is_dataclass(kind):
        return _read_fields(tree, kind, where, key, schemas or {})
    origin, items = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, tuple):
        return _read_items(tree, list(items), where, key)
    if origin is dict:
        if not isinstance(tree, dict):
            raise InputError(f"{where}: {key} must be a mapping of keys to values")
        return {k: read_values(v, items[1], where, f"{key}.{k}") for k, v in tree.items()}
    if kind is Any:
        return _as_yaml_reads_it(tree)
    return _read_leaf(tree, kind, where, key)


def default_values(schema: Any, schemas: Mapping[str, type]) -> dict[str, Any]:
    """The plain values of the fields that have a default; ``schemas`` as in :func:`read_values`."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(schema):
        if f.name in schemas:
            found[f.name] = default_values(schemas[f.name], {})
        elif f.default is not dataclasses.MISSING:
            found[f.name] = plain(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            found[f.name] = plain(f.default_factory())
    return found


def plain(value: Any) -> Any:
    """Take a dataclass, and what is in it, apart."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def lay_over(old: Any, new: Any, where: str) -> Any:
    """Lay plain values over others: dicts key by key, a dict over a list item by item.

    Raises:
        InputError: the list has no such item.
    """
    if not isinstance(new, dict) or not isinstance(old, dict | list):
        return new
    if isinstance(old, dict):
        return {**old, **{k: lay_over(old.get(k), value, where) for k, value in new.items()}}
    whole = list(old)
    for number, value in new.items():
        if not number.isdecimal() or int(number) >= len(whole):
            raise InputError(f"{where}: the list has items 0 to {len(whole) - 1}, not '{number}'")
        whole[int(number)] = lay_over(whole[int(number)], value, where)
    return whole


def build(values: Any, kind: Any, schemas: Mapping[str, type] | None = None, key: str = "") -> Any:
    """Make a dataclass, or what a field of one holds, of plain values of its type.

    Args:
        values: as :func:`read_values` gives them.
        kind, schemas, key: as for :func:`read_values`.

    Raises:
        InputError: a value that has no default is missing.
        ValueError: a dataclass refuses its values.
    """
    kind, _ = _without_none(kind)
    if values is None:
        return None
    if dataclasses.is_dataclass(kind):
        given: dict[str, Any] = {}
        for f in dataclasses.fields(kind):
            dotted = f"{key}.{f.name}" if key else f.name
            if f.name in values:
                schema = (schemas or {}).get(f.name, f.type)
                given[f.name] = build(values[f.name], schema, key=dotted)
            elif f.default is f.default_factory:  # both MISSING
                raise InputError(f"config: '{dotted}' is missing, and has no default")
        return typing.cast(Any, kind)(**given)
    origin, items = typing.get_origin(kind), typing.get_args(kind)
    if origin not in (list, tuple):
        return values
    if isinstance(values, dict):  # some items of a list that there is not
        raise InputError(f"config: {key} is no list yet of which item {min(values)} could be set")
    return origin(build(item, items[0], key=f"{key}.{n}") for n, item in enumerate(values))


def _without_none(kind: Any) -> tuple[Any, bool]:
    """Take None off a union with one other type; says whether it was there."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        others = [arg for arg in typing.get_args(kind) if arg is not types.NoneType]
        if len(others) == 1:
            return others[0], True
    return kind, False


def _read_fields(
    tree: Any, schema: Any, where: str, key: str, schemas: Mapping[str, type]
) -> dict[str, Any]:
    fields = {f.name: schemas.get(f.name, f.type) for f in dataclasses.fields(schema)}
    if not isinstance(tree, dict):
        raise InputError(f"{where}: {key or 'a config'} must be a mapping of {', '.join(fields)}")
    prefix = f"{key}." if key else ""
    for name in tree:
        if name not in fields:
            nearest = difflib.get_close_matches(prefix + name, _keys(fields, prefix), 1, cutoff=0.4)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            raise InputError(
                f"{where}: unknown config key '{_shortened(prefix + name)}': {hint}"
                f"valid here: {', '.join(prefix + field for field in fields)}"
            )
    return {n: read_values(v, fields[n], where, prefix + n) for n, v in tree.items()}


def _read_items(tree: Any, kinds: list[Any], where: str, key: str) -> Any:
    if isinstance(tree, dict):  # of some items, by number
        return {n: read_values(v, kinds[0], where, f"{key}.{n}") for n, v in tree.items()}
    if not isinstance(tree, list):
        raise InputError(f"{where}: {key} must be a list, such as [a, b]")
    wanted = len(kinds) if len(kinds) > 1 and kinds[-1] is not ... else len(tree)
    if len(tree) != wanted:
        raise InputError(f"{where}: {key} has {len(tree)} values, where {wanted} are wanted")
    return [read_values(v, kinds[0], where, f"{key}.{n}") for n, v in enumerate(tree)]


def _read_leaf(tree: Any, kind: Any, where: str, key: str) -> Any:
    convert, wanted = _LEAVES[kind]
    text = tree.text if isinstance(tree, Written) else None
    if text is None:
        raise InputError(f"{where}: {key} must be {wanted}")
    try:
        value = convert(text)
    except (ValueError, KeyError):
        raise InputError(f"{where}: {key} is {_shortened(text)}: it must be {wanted}") from None
    if kind is str and "\0" in value:  # no path and no tokenizer takes it
        raise InputError(f"{where}: {key} holds a NUL, which no text has")
    if kind is int and abs(value) > _LARGEST:
        raise InputError(f"{where}: {key} is {_shortened(text)}: no setting is that large")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{where}: {key} is {value}: it must be a finite number")
    return value


def _as_yaml_reads_it(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_yaml_reads_it(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_yaml_reads_it(item) for item in tree]
    return tree.value


def _keys(fields: Mapping[str, Any], prefix: str) -> list[str]:
    """List every key in dotted form (``train.lr``), leaves and groups."""
    keys: list[str] = []
    for name, kind in fields.items():
        keys.append(prefix + name)
        if dataclasses.is_dataclass(kind):
            inner = {f.name: f.type for f in dataclasses.fields(kind)}
            keys += _keys(inner, f"{prefix}{name}.")
    return keys


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
