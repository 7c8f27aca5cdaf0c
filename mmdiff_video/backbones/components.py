"""Put a stock pipeline together from the components of a diffusers folder.

Which classes they are is said by the family and, for scheduler and tokenizers, by the folder; they
are of diffusers and transformers, or the folder is refused. Nothing else in it is run or unpickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmdiff_video.backbones.bars import bars_on_terminals_only
from mmdiff_video.backbones.family import Family
from mmdiff_video.backbones.index import Entry, read_index
from mmdiff_video.backbones.model_files import check_vocabulary, read_config
from mmdiff_video.backbones.models import cannot_load, load_model
from mmdiff_video.errors import InputError

_LARGEST = 1e6
"""No number of a scheduler is larger; it makes tables as long as they say."""


def load_pipeline(folder: Path, dtypes: Mapping[str, torch.dtype]) -> Any:
    """Load the text-to-image or text-to-video pipeline of a diffusers folder, on the CPU.

    Args:
        folder: with ``model_index.json``.
        dtypes: component -> its dtype; ``default`` for those not named.

    Raises:
        InputError: a component that is missing, of another class, damaged, incomplete or not to be
            read without running code; names its folder.
    """
    try:
        return _load_pipeline(folder, dtypes)
    except (InputError, OSError) as error:  # a component may be unreadable, or vanish
        raise InputError(
            f"'{folder}' cannot be loaded as a diffusers pipeline: {error}"
        ) from error.__cause__


def _load_pipeline(folder: Path, dtypes: Mapping[str, torch.dtype]) -> Any:
    import diffusers

    family, pipeline, entries = read_index(folder)
    components: dict[str, Any] = {}
    for name in ("scheduler", *family.components.tokenizers, *family.components.models):
        if entries.get(name) is None:
            raise InputError(
                f"'{folder}' has no {name} in its model_index.json, which {family.name} needs: give"
                " the whole pipeline"
            )
        if not (folder / name).is_dir():
            raise InputError(f"'{folder}' is not complete: it has no {name} folder; fetch it again")
    components["scheduler"] = _load_scheduler(folder / "scheduler", entries["scheduler"])
    for name in family.components.tokenizers:
        components[name] = _load_tokenizer(folder / name, entries[name])
    for name in family.components.models:
        dtype = dtypes.get(name, dtypes["default"])
        components[name] = load_model(_class(entries[name]), folder / name, dtype)
    _check_vocabularies(folder, family, components)
    cls = getattr(diffusers, pipeline)
    # encoders of pictures and the like, which text alone does not need
    unused = dict.fromkeys(set(cls._optional_components) - components.keys())
    try:
        with bars_on_terminals_only():
            return cls.from_pretrained(folder, local_files_only=True, **components, **unused)
    except Exception as error:  # any: the index has values beside the components
        raise cannot_load(folder, cls, error) from error


def _class(entry: Entry) -> Any:
    import diffusers
    import transformers

    library = diffusers if entry.library == "diffusers" else transformers
    return getattr(library, entry.cls, None)


def _load_scheduler(folder: Path, entry: Entry) -> Any:
    from diffusers import SchedulerMixin

    cls = _class(entry)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
        raise InputError(f"'{folder}' cannot be loaded: diffusers has no scheduler '{entry.cls}'")
    make: Any = cls  # its mixin of configs is not in the annotations
    path = folder / "scheduler_config.json"
    config = read_config(path)
    for key, value in config.items():
        if isinstance(value, int | float) and abs(value) > _LARGEST:
            raise InputError(f"'{path}' says {key} is {str(value)[:20]}: no scheduler has that")
    try:
        return make.from_config(config)
    except Exception as error:  # any: the class was given values it has never seen
        raise cannot_load(folder, cls, error) from error


def _load_tokenizer(folder: Path, entry: Entry) -> Any:
    from transformers import PreTrainedTokenizerBase

    cls = _class(entry)
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedTokenizerBase)):
        raise InputError(f"'{folder}' cannot be loaded: '{entry.cls}' is no tokenizer's class")
    check_vocabulary(folder, cls.vocab_files_names)
    try:
        return cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # any: the parser of tokenizer.json raises Exception itself
        raise cannot_load(folder, cls, error) from error


def _check_vocabularies(folder: Path, family: Family, components: Mapping[str, Any]) -> None:
    for name, encoder in family.components.tokenizers.items():
        words = len(components[name])
        rows = components[encoder].get_input_embeddings().weight.shape[0]
        if words > rows:
            raise InputError(
                f"'{folder}': {name} has {words} tokens and {encoder} knows {rows}: they are not of"
                " the same model"
            )
