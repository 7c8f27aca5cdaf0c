"""``model_index.json``: which family a diffusers folder is of, and the classes it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmdiff_video.backbones.families import family_of
from mmdiff_video.backbones.family import Family
from mmdiff_video.backbones.hub import INDEX
from mmdiff_video.backbones.model_files import read_config
from mmdiff_video.errors import InputError

_LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True)
class Entry:
    """The class of a component, and the library that has it."""

    library: str
    cls: str


class Index(NamedTuple):
    """What a folder is made of.

    Attributes:
        family: of its pipeline.
        pipeline: the diffusers class.
        entries: component -> its class; of the components that matter, those that the file names.
    """

    family: Family
    pipeline: str
    entries: Mapping[str, Entry]


def read_index(folder: Path, where: str | None = None) -> Index:
    """Read the index of a diffusers folder.

    Args:
        folder: the pipeline's.
        where: what messages call it; None: the folder.

    Raises:
        InputError: it is missing or not readable, a pipeline of no known family or with two
            transformers, or a component of a class that is not the family's.
    """
    where = where or str(folder)
    content = read_config(folder / INDEX)
    # a list where the pipeline itself is somebody's code
    pipeline = str(content.get("_class_name"))[:80]
    family = family_of(pipeline, where)
    second = content.get("transformer_2")
    if _entry(where, "transformer_2", second) is not None:  # Wan 2.2 A14B
        raise InputError(
            f"'{where}' denoises with two transformers in turn; give a pipeline that has one"
        )
    parts = family.components
    entries: dict[str, Entry] = {}
    for name in ("scheduler", *parts.tokenizers, *parts.models):
        entry = _entry(where, name, content.get(name))
        if entry is None:
            continue
        if name in parts.models and entry.cls != parts.models[name]:
            raise InputError(
                f"'{where}' has a {entry.cls} as {name}, where {family.name} has a"
                f" {parts.models[name]}"
            )
        entries[name] = entry
    return Index(family, pipeline, entries)


def _entry(where: str, name: str, value: Any) -> Entry | None:
    """Read one component; None where it is left out."""
    if value is None or value == [None, None]:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)):
        raise InputError(
            f"'{where}': {INDEX} must give '{name}' as [library, class], not {str(value)[:80]}"
        )
    library, cls = value
    if library not in _LIBRARIES:
        raise InputError(
            f"'{where}': {INDEX} takes '{name}' from '{library}', and code that comes with a model"
            f" is never run; valid: {', '.join(_LIBRARIES)}"
        )
    return Entry(library, cls)
