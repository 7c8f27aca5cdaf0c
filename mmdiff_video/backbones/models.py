"""Load one model of diffusers or transformers so that every weight is one of its files'.

The libraries fill in what is missing, at random, leave out what does not fit, unpickle, and give up
with whatever exception a file leads to. Here all of that is one sentence instead, and no code of a
model's folder is ever run: the class is chosen by who asks, never by ``auto_map``.
"""

import json
import logging
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import get_total_norm

from mmdiff_video.backbones.bars import bars_on_terminals_only
from mmdiff_video.backbones.model_files import WeightFiles, find_weights, read_config
from mmdiff_video.errors import InputError

logger = logging.getLogger(__name__)

_CONFIG = "config.json"

_QUANTISED = ("quantization_config", "compression_config")
"""Keys of a config whose weights are codes."""

_REPEATED = ("layers", "blocks")
"""Words in the keys of a config that say how often something is built."""

_MOST_REPEATED = 256
"""More layers than any model has; to build so many, without weights, takes a second."""

_REPORTERS = (
    "transformers.modeling_utils",
    "diffusers.models.modeling_utils",
    "diffusers.models.model_loading_utils",
)
"""Loggers that report tensors which do not fit, before or instead of an exception."""

_SPARE_CLAIM = 2**24
"""A config may describe so many more weights than there are before it is not even tried: 64 MB."""


def load_model(
    cls: Any, folder: Path, dtype: torch.dtype | str, *, config: Any = None, spare: bool = False
) -> Any:
    """Load a model of a class from its own folder, on the CPU.

    Args:
        cls: a model class of diffusers or transformers.
        folder: with ``config.json`` and the weights, as ``save_pretrained`` leaves them; in
            half precision alone (``*.fp16.safetensors``) does as well.
        dtype: of the weights, but for modules that the class keeps in float32; ``auto``: as they
            are.
        config: of transformers, where the caller has it already.
        spare: tensors that the class has no place for are counted in a warning instead of refused.

    Raises:
        InputError: files that are missing, cut short, pickled or quantised; a config of another
            class or out of range; tensors that are missing, left over or of another shape.
    """
    content = _read_config(cls, folder)
    of_diffusers = _of_diffusers(cls)
    weights = find_weights(folder, "diffusion_pytorch_model" if of_diffusers else "model")
    _check_claim(cls, folder, content, weights)
    keywords: dict[str, Any] = {"torch_dtype": dtype} if of_diffusers else {"dtype": dtype}
    if config is not None:
        keywords["config"] = config
    if not of_diffusers:  # to hear which tensors do not fit, and where
        keywords["ignore_mismatched_sizes"] = True
    try:
        with bars_on_terminals_only(), _silent(*_REPORTERS):
            model, found = cls.from_pretrained(
                folder,
                variant=weights.variant,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **keywords,
            )
    # the libraries raise anything on a config or file that is not as they expect it
    except Exception as error:
        raise cannot_load(folder, cls, error) from error
    _check_complete(cls, folder, found, spare=spare)
    return model


def check_finite(model: nn.Module, folder: Path) -> None:
    """Refuse a model with weights that are no numbers; on an accelerator where it already is.

    Raises:
        InputError: a weight is NaN or infinite; names its tensor.
    """
    weights = [p.detach() for p in model.parameters() if p.is_floating_point() and not p.is_meta]
    if get_total_norm(weights).isfinite():
        return
    for name, p in model.named_parameters():
        if p.is_floating_point() and not p.is_meta and not p.detach().isfinite().all():
            raise InputError(
                f"'{folder}' has weights that are no numbers: {name} holds NaN or infinity in"
                f" {p.dtype}; fetch it again, or load it in a wider dtype"
            )


def cannot_load(folder: Path, cls: Any, error: Exception) -> InputError:
    """Say in a sentence that a library could not make a ``cls`` of a folder."""
    lines = str(error).strip().splitlines()
    reason = lines[0].split(". If you want", 1)[0].rstrip(".:") if lines else type(error).__name__
    return InputError(
        f"'{folder}' cannot be loaded as {cls.__name__} ({reason}); fetch it again or give another"
        " folder"
    )


def _of_diffusers(cls: Any) -> bool:
    return cls.__module__.partition(".")[0] == "diffusers"


def _read_config(cls: Any, folder: Path) -> Mapping[str, Any]:
    content = read_config(folder / _CONFIG)
    _check_class(cls, folder / _CONFIG, content)
    for part in (content, *(v for v in content.values() if isinstance(v, dict))):
        for key in _QUANTISED:
            if part.get(key) is not None:
                method = part[key].get("quant_method", key) if isinstance(part[key], dict) else key
                raise InputError(
                    f"'{folder}' is quantised ({method}): give the model in bfloat16, float16 or"
                    " float32"
                )
    # either would bring in weights that are in none of the files checked
    if "transformers_weights" in content or (folder / "adapter_config.json").exists():
        raise InputError(
            f"'{folder}' names an adapter or a weight file of its own: merge it into the model and"
            " save that"
        )
    return content


def _check_class(cls: Any, path: Path, content: Mapping[str, Any]) -> None:
    """Refuse the config of another class; one that names none, or the whole of it, may pass."""
    if _of_diffusers(cls):
        named, wanted = content.get("_class_name"), cls.__name__
    else:
        own = cls.config_class
        named, wanted = content.get("model_type"), own.model_type
        if own.base_config_key in content:
            return
    if named is not None and named != wanted:
        raise InputError(f"'{path}' describes a {named}, not a {wanted}: give another folder")


def _check_claim(cls: Any, folder: Path, content: Mapping[str, Any], weights: WeightFiles) -> None:
    """Compare what a config describes with what the files hold, before memory is taken for it.

    Roughly: the library says exactly what is missing, once that fits.
    """
    path, most = folder / _CONFIG, max(_MOST_REPEATED, len(weights.shapes))
    for key, number in _numbers(content):
        if any(word in key for word in _REPEATED) and number > most:
            raise InputError(
                f"'{path}' says {key} is {str(number)[:20]}, but the files beside it hold"
                f" {len(weights.shapes)} tensors"
            )
    try:
        claimed = _elements(cls, json.dumps(content))
    except Exception as error:  # any: the class was given numbers it has never seen
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"'{path}' describes no {cls.__name__} ({type(error).__name__}: {reason}): fetch it"
            " again or give another folder"
        ) from error
    held = sum(math.prod(shape) for shape in weights.shapes.values())
    if claimed > 2 * held + _SPARE_CLAIM:
        raise InputError(
            f"'{path}' describes a model of {claimed:,} weights, but the files beside it hold"
            f" {held:,}: they are not of the same model"
        )


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON value with the key that it stands under."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield key, content


@lru_cache(maxsize=64)
def _elements(cls: Any, config: str) -> int:
    """Count the weights of the model that a config describes, without any memory for them."""
    content = json.loads(config)
    with torch.device("meta"), _silent("diffusers.configuration_utils"):
        if _of_diffusers(cls):
            model = cls.from_config(content)
        else:
            model = cls(cls.config_class.from_dict(content))
    return sum(t.numel() for t in (*model.parameters(), *model.buffers()))


def _check_complete(cls: Any, folder: Path, found: Mapping[str, Any], *, spare: bool) -> None:
    """Refuse what a library reports after loading, where it would go on."""
    kind = f"weights of a {cls.__name__}"
    if missing := found["missing_keys"]:  # the library would go on with random ones
        raise InputError(
            f"'{folder}' lacks {len(missing)} {kind}, for instance {min(missing)}; fetch it again"
        )
    if mismatched := found["mismatched_keys"]:
        name, held, wanted = min(mismatched)
        raise InputError(
            f"'{folder}' has {len(mismatched)} {kind} in another shape, for instance {name}:"
            f" {list(held)} where its {_CONFIG} says {list(wanted)}; fetch it again"
        )
    if errors := found.get("error_msgs"):
        raise cannot_load(folder, cls, ValueError(next(iter(errors))))
    left: Collection[str] = found["unexpected_keys"]
    if left and spare:
        logger.warning(
            "'%s' holds %d tensors that a %s has no place for, for instance %s",
            folder,
            len(left),
            cls.__name__,
            min(left),
        )
    elif left:
        raise InputError(
            f"'{folder}' holds {len(left)} tensors that the {cls.__name__} of its {_CONFIG} has no"
            f" place for, for instance {min(left)}: they are not of the same model"
        )


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Leave out what these loggers of the libraries say: it is checked, and said, here."""

    def refuse(record: logging.LogRecord) -> bool:
        return False

    # not their level, which transformers asks to decide what else to do
    loggers = [logging.getLogger(name) for name in names]
    for library in loggers:
        library.addFilter(refuse)
    try:
        yield
    finally:
        for library in loggers:
            library.removeFilter(refuse)
