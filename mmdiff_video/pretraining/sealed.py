"""Checksums for the weights that diffusers writes, which keep its format and gain the metadata.

diffusers and transformers read past them; what starts from such weights here checks them.
"""

from pathlib import Path

from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_aside
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors


def seal_weights(folder: Path) -> None:
    """Write the weights in a folder that was just saved, and in those below, with a checksum."""
    for file in sorted(folder.rglob("*.safetensors")):
        tensors, metadata = load_tensors(file)
        with write_aside(file) as aside:
            save_tensors(aside, tensors, metadata)


def check_weights(folder: Path) -> None:
    """See that the weights in a folder are as they were written, where they have a checksum.

    Raises:
        InputError: they are not; names the file.
    """
    for file in sorted(folder.glob("*.safetensors")):
        read_weights(file)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a file of weights, name -> tensor.

    Raises:
        InputError: it is damaged.
    """
    try:
        return load_tensors(file)[0]
    except DamagedError as error:
        raise InputError(
            f"'{file.parent}' is damaged ({error}): restore it from a copy, or make it anew"
        ) from None
