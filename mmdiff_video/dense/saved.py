"""A saved dense model: its files, in a folder or on the Hugging Face Hub."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from mmdiff_video.config import save_config
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.errors import InputError
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


def push_to_hub(folder: Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a saved model, without the path of its training data.

    Args:
        folder: of a finished run of one task, or what ``DenseModel.save_pretrained`` wrote.
        repo_id: OWNER/NAME of the repository; made where it is missing.
        private: whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        InputError: no saved model there, or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder")
    find_saved(folder)
    config = open_run(folder, "dense").read_config(DenseConfig)
    config = replace(
        config, data=replace(config.data, root=None), cache=replace(config.cache, dir=None)
    )
    api = HfApi()
    with tempfile.TemporaryDirectory() as upload:
        save_config(config, Path(upload) / CONFIG)
        for name in (FACTS, WEIGHTS):
            shutil.copyfile(folder / name, Path(upload) / name)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=upload))
        except (HfHubHTTPError, HFValidationError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"'{repo_id}' cannot be written to on the Hub: {reason}; `hf auth login` logs in"
            ) from None
