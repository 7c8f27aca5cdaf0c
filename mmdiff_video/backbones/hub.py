"""Files from the Hugging Face hub, with errors that say what to do."""

import re
from collections.abc import Sequence
from pathlib import Path

from mmdiff_video.errors import InputError
from mmdiff_video.files import parse_json, read_text

#: What makes a folder a diffusers pipeline.
INDEX = "model_index.json"

#: Written beside model_index.json by whoever makes a folder for this toolkit: ``untrained``,
#: ``scale`` and, optionally, ``defaults``.
FOLDER_CARD = "mmdiff.json"

# what a component's folder holds that is needed
_ENDINGS = ("*.json", "*.safetensors", "*.txt", "*.model")

# the same weights once more: model.fp16.safetensors, model.safetensors.index.fp16.json
_VARIANTS = ("*.*.safetensors", "*.index.*.json")


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form ``organisation/name``."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None


def fetch_pipeline(hub_id: str) -> Path:
    """Download a diffusers pipeline: the components of its model_index.json and nothing else.

    Left out are the single-file copies beside them, the folders that belong to other programs, and
    the same weights once more in half precision, unless a model has no others.

    Raises:
        InputError: as :func:`fetch`, or a model_index.json that cannot be read.
    """
    index = fetch(hub_id, [INDEX]) / INDEX
    try:
        entries = parse_json(read_text(index)).items()
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"'{hub_id}' has no readable {INDEX}: {error}") from None
    # name -> [library, class]; a component left out is [null, null]
    components = [name for name, entry in entries if isinstance(entry, list) and any(entry)]
    files = [f"{component}/{ending}" for component in components for ending in _ENDINGS]
    folder = fetch(hub_id, [INDEX, FOLDER_CARD, *files], ignored=_VARIANTS)
    # schedulers and tokenizers have a configuration under another name
    models = [name for name in components if (folder / name / "config.json").is_file()]
    bare = [name for name in models if not any((folder / name).glob("*.safetensors"))]
    if bare:
        folder = fetch(
            hub_id, [f"{name}/{ending}" for name in bare for ending in ("*.json", "*.safetensors")]
        )
    return folder


def fetch(
    hub_id: str,
    patterns: Sequence[str],
    *,
    ignored: Sequence[str] = (),
    instead: str = "diffusers folder",
) -> Path:
    """Download the matching files of a hub repository, or find them in the local hub cache.

    Args:
        hub_id: the repository.
        patterns: of its files.
        ignored: patterns of those that are not wanted after all.
        instead: the kind of local folder that does as well, for the message.

    Raises:
        InputError: not there and not to be downloaded: offline, gated, or no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=list(patterns), ignore_patterns=list(ignored))
        )
    except GatedRepoError:
        reason = "it is gated: accept its licence on the hub and run `hf auth login`"
    except RepositoryNotFoundError:
        reason = "the hub has no such public repository: check the name, or run `hf auth login`"
    # Offline mode, no route, a refused proxy: each layer raises its own kind of OSError/ValueError.
    except (OSError, ValueError) as error:
        cause = f"{error}".strip().split("\n")[0].split(". ")[0] or type(error).__name__
        reason = f"the hub cannot be reached ({cause}): go online, logged in if it is a gated model"
    raise InputError(
        f"no weights of '{hub_id}' on this machine, and {reason},"
        f" or give the path of a local {instead}"
    )
