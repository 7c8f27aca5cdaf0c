"""Spoil a copy of a model's folder, and hear what is said of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmdiff_video.backbones import load_backbone
from mmdiff_video.errors import InputError


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(component: Path) -> Path:
    """The one weight file of a component."""
    return next(component.glob("*.safetensors"))


def rewrite(component: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a component's weight file."""
    tensors = load_file(weights(component))
    change(tensors)
    save_file(tensors, weights(component), {"format": "pt"})


def refusal(folder: Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(InputError) as error:
        load_backbone(folder, device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)
