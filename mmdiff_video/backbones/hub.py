"""Files from the Hugging Face hub, with errors that say what to do."""

import re
from collections.abc import Sequence
from pathlib import Path

from mmdiff_video.errors import InputError

#: Written beside model_index.json by whoever makes a folder for this toolkit: ``untrained`` and,
#: optionally, ``defaults``.
FOLDER_CARD = "mmdiff.json"

#: Everything a diffusers folder needs, and none of the single-file copies beside it.
PIPELINE_FILES = [
    "model_index.json",
    FOLDER_CARD,
    "*/*.json",
    "*/*.safetensors",
    "*/*.txt",
    "*/*.model",
]


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form ``organisation/name``."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None


def fetch(hub_id: str, patterns: Sequence[str], *, instead: str = "diffusers folder") -> Path:
    """Download the matching files of a hub repository, or find them in the local hub cache.

    Args:
        hub_id: the repository.
        patterns: of its files.
        instead: the kind of local folder that does as well, for the message.

    Raises:
        InputError: not there and not to be had: offline, gated, or no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
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
