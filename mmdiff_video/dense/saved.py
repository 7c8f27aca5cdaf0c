"""A saved dense model: its files, in a folder or on the Hugging Face Hub."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmdiff_video.config import save_config
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.errors import InputError
from mmdiff_video.files import parse_json, read_text
from mmdiff_video.runs import CONFIG, open_run

FACTS, WEIGHTS = "dense.json", "model.safetensors"
"""The files of a saved model, beside its config; a finished run folder has them too."""


def find_saved(folder: Path | str) -> Path:
    """Find a saved model: in a folder, or in a repository on the Hub, which is downloaded.

    Args:
        folder: a folder, or OWNER/NAME on the Hub.

    Raises:
        InputError: no such folder or repository, an unfinished run, or a run of another kind.
    """
    path = Path(folder)
    if not path.is_dir():
        if str(folder).count("/") != 1:
            raise InputError(f"'{folder}' is no folder, and no id of a repository (OWNER/NAME)")
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        try:
            path = Path(snapshot_download(str(folder), allow_patterns=[CONFIG, FACTS, WEIGHTS]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"'{folder}' is no folder, nor on the Hub: {reason}") from None
    if (path / CONFIG).is_file():
        open_run(path, "dense")
    missing = [name for name in (CONFIG, FACTS, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"'{folder}' is not a finished run of `mmdiff-video dense`: it has no"
            f" {' and no '.join(missing)}"
        )
    return path


@dataclass(frozen=True)
class Facts:
    """What ``dense.json`` says that opening a model needs.

    Attributes:
        classes: of a segmentation, else None.
        step: how many steps it was trained.
        backbone_fingerprint: of the weights that it was trained on; None where an older version
            did not record it.
    """

    classes: Classes | None
    step: int
    backbone_fingerprint: str | None


def read_facts(folder: Path) -> Facts:
    """Read the facts of a saved model.

    Raises:
        InputError: the file is damaged, or holds what cannot be; says what.
    """
    path = folder / FACTS
    text = read_text(path)
    try:
        facts = parse_json(text)
        if not isinstance(facts, dict):
            raise ValueError("it is no JSON object")
        step, fingerprint = facts["step"], facts.get("backbone_fingerprint")
        if not _is_whole(step, 2**63) or not isinstance(fingerprint, str | None):
            raise ValueError("it has no number of steps, or a fingerprint that is no text")
        return Facts(parse_classes(facts["classes"]), step, fingerprint)
    except KeyError as error:
        raise InputError(f"'{path}' is damaged, it lacks {error}: save the run anew") from None
    except ValueError as error:
        raise InputError(f"'{path}' is damaged, {error}: save the run anew") from None


def parse_classes(found: Any) -> Classes | None:
    """Check classes as they are in JSON: names, a colour for each, and the void label.

    Raises:
        KeyError: one of them is missing.
        ValueError: what is wrong with them.
    """
    if found is None:
        return None
    if not isinstance(found, dict):
        raise ValueError("its classes are no JSON object")
    names, colors, void = found["names"], found["colors"], found["void"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of its classes are no list of texts")
    if not 2 <= len(names) <= 255:
        raise ValueError(f"it names {len(names)} classes, where 2 to 255 can be told apart")
    if not isinstance(colors, list) or not all(
        isinstance(color, list) and len(color) == 3 and all(_is_whole(part, 256) for part in color)
        for color in colors
    ):
        raise ValueError("a colour is not three whole numbers from 0 to 255")
    if len(colors) != len(names):
        raise ValueError(f"it has {len(colors)} colours for {len(names)} classes")
    if not _is_whole(void, 256):
        raise ValueError(f"its void label is {str(void)[:40]}, not a whole number from 0 to 255")
    return Classes(tuple(names), tuple((r, g, b) for r, g, b in colors), void)


def _is_whole(found: Any, end: int) -> bool:
    """Whether it is a whole number from 0 up to, not including, ``end``."""
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found < end


def push_to_hub(folder: Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a saved model, without the path of its training data.

    Args:
        folder: of a finished run of one task, or what ``DenseModel.save_pretrained`` wrote.
        repo_id: OWNER/NAME of the repository; made where it is missing.
        private: whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        InputError: no saved model there, a damaged one, or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder")
    read_facts(find_saved(folder))  # what others would not be able to open is not uploaded
    config = open_run(folder, "dense").read_config(DenseConfig)
    config = replace(
        config, data=replace(config.data, root=None), cache=replace(config.cache, dir=None)
    )
    api = HfApi()
    with tempfile.TemporaryDirectory() as upload:
        save_config(config, Path(upload) / CONFIG)
        for name in (FACTS, WEIGHTS):
            if (folder / name).is_symlink():  # to whatever a stranger likes to see uploaded
                raise InputError(f"'{folder / name}' is a link: only files of the run are uploaded")
            shutil.copyfile(folder / name, Path(upload) / name)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=upload))
        except (HfHubHTTPError, HFValidationError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"'{repo_id}' cannot be written to on the Hub: {reason}; `hf auth login` logs in"
            ) from None
