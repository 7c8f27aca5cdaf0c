"""YAML in which every value keeps its text, so that the type of a setting decides what it means.

By YAML's own eyes ``2024_01`` is a number, ``no`` is false and ``room #1`` ends at its comment: no
name of a folder and no prompt should pass them. What else YAML can do is refused: aliases, which
let a small file unfold into a huge one, and tags, which can name Python objects.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmdiff_video.errors import InputError
from mmdiff_video.files import read_text

_LARGEST = 256 * 1024
"""Bytes of a file, at most; a config has a few thousand."""

_DEEPEST = 30
"""Levels of lists and mappings, at most; a config has five."""


@dataclass(frozen=True)
class Written:
    """A value as somebody wrote it.

    Attributes:
        text: as it stands there, without quotes around it; None for ``null`` or nothing.
        value: what YAML takes it for: a scalar; of a value on the command line also a dict or list
            of :class:`Written`, or the :class:`InputError` that says why it is no YAML.
    """

    text: str | None
    value: Any


def read_yaml(path: Path) -> Any:
    """Read a file: dicts and lists of :class:`Written`; None where it is empty.

    Raises:
        InputError: it is no YAML, not UTF-8, too large, nested too deep, or has a key twice, an
            alias or a tag; names the file and the line.
        OSError: it is missing or cannot be read.
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise InputError(
            f"{path}: {size} bytes are too many for a config, which has {_LARGEST} at most"
        )
    return _parse(read_text(path), str(path))[0]


def written(text: str, where: str) -> Written:
    """Take a value from the command line; see :class:`Written`.

    Args:
        text: as typed. Quotes around the whole of it are YAML's.
        where: names it in messages.
    """
    try:
        tree, quoted = _parse(text, where)
    except InputError as error:
        return Written(text, error)
    if tree is None:
        return Written(None, None)
    if not isinstance(tree, Written):
        return Written(text, tree)
    return tree if quoted or tree.text is None else Written(text, tree.value)


def as_written(value: Any) -> Any:
    """Make of plain Python values what :func:`read_yaml` would give for them."""
    if isinstance(value, Mapping):
        return {str(key): as_written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_written(item) for item in value]
    return Written(None if value is None else str(value), value)


def to_yaml(values: Mapping[str, Any]) -> str:
    """Write dicts and lists of plain values, none of which occurs at two places, as YAML."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Without aliases, tags, dates, merge keys and deep nesting; ``1e-4`` is a number."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem=f"'*{event.anchor}' repeats a value: write it out",
                problem_mark=event.start_mark,
            )
        if event.tag not in (None, "!"):
            raise yaml.MarkedYAMLError(
                problem=f"the tag '{event.tag}' has no meaning here", problem_mark=event.start_mark
            )
        if self.depth == _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem="it is nested too deep", problem_mark=event.start_mark
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.endswith((":bool", ":int", ":null"))]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.nan$"),
    list("-+.0123456789"),
)


def _parse(text: str, where: str) -> tuple[Any, bool]:
    """Parse YAML; also says whether the whole is one text in quotes."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, False
        quoted = isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')
        return _read(loader, node), quoted
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = f"{error.problem}{line}"
    except Exception as error:  # on hostile text the library raises many kinds
        reason = str(error).strip().splitlines()[0]
    raise InputError(f"{where}: not readable YAML: {reason}")


def _read(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                problem = f"the key '{key.value}' stands there twice"
                if not isinstance(key, yaml.ScalarNode):
                    problem = "a key is a list or a mapping"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            found[key.value] = _read(loader, value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_read(loader, item) for item in node.value]
    value = loader.construct_object(node)
    return Written(None if value is None else node.value, value)
