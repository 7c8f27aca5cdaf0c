"""The files of a model's folder, looked at before a library opens them.

Of the weights only headers are read. What cannot be loaded whole, or would have to be unpickled, is
refused here, in a sentence that names the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mmdiff_video.errors import InputError
from mmdiff_video.files import parse_json, read_text

_READ = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "BOOL")
"""Types of tensors that are what they say; the others are codes of some quantisation."""

_PREFERRED = ("fp32", "bf16", "fp16")
"""Variants that are taken first where the plain files are not there."""


@dataclass(frozen=True)
class WeightFiles:
    """What the files of a model hold.

    Attributes:
        variant: ``fp16`` in ``model.fp16.safetensors``; None for the plain files, which come first.
        shapes: name of a tensor -> its shape.
    """

    variant: str | None
    shapes: Mapping[str, tuple[int, ...]]


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model's folder.

    Raises:
        InputError: the file is missing, unreadable or no object.
    """
    try:
        content = parse_json(read_text(path))
    except FileNotFoundError:
        raise InputError(
            f"'{path.parent}' is not a complete model folder: it has no {path.name}"
        ) from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object")
    return content


def find_weights(folder: Path, stem: str) -> WeightFiles:
    """Find the weights of a model in its folder and read their headers.

    Args:
        folder: of the model; links out of it are followed, as the hub's cache has them.
        stem: how the library calls them: ``model``, ``diffusion_pytorch_model``.

    Raises:
        InputError: there are none, pickles alone, quantised ones, a shard is missing, an index
            names a file elsewhere, or a file is cut short.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    variants = {
        match["variant"] or match["indexed"]
        for name in names
        if (match := re.fullmatch(_names(stem), name))
    }
    if not variants:
        raise InputError(f"'{folder}' holds no {stem}.safetensors{_instead(names)}")
    variant = None if None in variants else min(variants, key=_rank)
    middle = "" if variant is None else f".{variant}"
    single = folder / f"{stem}{middle}.safetensors"
    index = folder / f"{stem}.safetensors.index{middle}.json"
    if not (single.is_file() or index.is_file()):
        raise InputError(f"'{single}' is no file or a broken link: fetch it again")
    shapes: dict[str, tuple[int, ...]] = {}
    # where both are there, one library takes the one and another the other
    if single.is_file():
        shapes |= _header(single)
    if index.is_file():
        shapes |= _sharded(index)
    return WeightFiles(variant, shapes)


def check_vocabulary(folder: Path, files: Mapping[str, str]) -> None:
    """Refuse the folder of a tokenizer without words: transformers would make one up.

    Args:
        folder: of the tokenizer.
        files: its class's ``vocab_files_names``; ``tokenizer_file`` is as good as all the others.

    Raises:
        InputError: neither is there.
    """
    parts = dict(files)
    whole = parts.pop("tokenizer_file", "tokenizer.json")
    if (folder / whole).is_file():
        return
    if not parts or not all((folder / part).is_file() for part in parts.values()):
        names = " and ".join(parts.values())
        raise InputError(
            f"'{folder}' holds no vocabulary: no {whole}{f', nor {names}' if names else ''}; fetch"
            " it again"
        )


def _names(stem: str) -> str:
    word = r"\.(?P<{}>[\w-]+?)"
    single = rf"{stem}(?:{word.format('variant')})?(?<!\d-of-\d{{5}})\.safetensors"
    return rf"{single}|{stem}\.safetensors\.index(?:{word.format('indexed')})?\.json"


def _rank(variant: str) -> tuple[int, str]:
    known = variant in _PREFERRED
    return _PREFERRED.index(variant) if known else len(_PREFERRED), variant


def _instead(names: list[str]) -> str:
    """What the folder has instead, and what to do."""
    for endings, what in (
        (
            (".bin", ".pt", ".pth", ".ckpt", ".pkl"),
            "a pickle, which can run code and is not opened",
        ),
        ((".gguf",), "which is quantised and not read"),
    ):
        found = [name for name in names if name.endswith(endings)]
        if found:
            return f" but {found[0]}, {what}: give the model's safetensors files"
    return ": fetch it again, or give a model that has its weights as safetensors"


def _sharded(index: Path) -> dict[str, tuple[int, ...]]:
    """Read the headers of the shards that an index names."""
    files = read_config(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"'{index}' is no index of shards: its 'weight_map' must name their files")
    shapes: dict[str, tuple[int, ...]] = {}
    for name in sorted(set(files.values())):
        # nothing outside the folder is read, whatever the index says
        if not name.endswith(".safetensors") or "\\" in name or Path(name).name != name:
            raise InputError(f"'{index}' names '{name}', which is no safetensors file beside it")
        if not (index.parent / name).is_file():
            raise InputError(f"'{index}' names {name}, which is not there: fetch it again")
        shapes |= _header(index.parent / name)
    lost = sorted(files.keys() - shapes.keys())
    if lost:
        raise InputError(
            f"'{index}' has {len(lost)} tensors that its files do not hold, for instance {lost[0]}:"
            " fetch them again"
        )
    return shapes


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            for name, part in slices.items():
                if part.get_dtype() not in _READ:
                    raise InputError(
                        f"'{path}' is quantised: {name} is of type {part.get_dtype()}; give the"
                        " model in bfloat16, float16 or float32"
                    )
            return {name: tuple(part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"'{path}' is cut short or no safetensors file ({error}): fetch it again"
        ) from None
