"""Colours for the labels of a scene's Gaussians."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.tensors import DamagedError, load_tensors

LABELS: Final = "labels.safetensors"
"""In the folder of a scene: ``class``, an integer for each Gaussian, below 0 where it has none."""

_UNLABELLED = 128
"""Grey."""


def label_colors(scene: Path) -> Tensor | None:
    """A colour for the class of each Gaussian of a scene; None where it has no labels.

    Returns:
        uint8 [G, 3], on the CPU.

    Raises:
        InputError: the file of labels is damaged, or holds no classes.
    """
    file = scene / LABELS
    if not file.is_file():
        return None
    try:
        tensors, _ = load_tensors(file)
    except DamagedError as error:
        raise InputError(f"{error}; label the scene anew") from None
    classes = tensors.get("class")
    if classes is None or classes.ndim != 1 or classes.is_floating_point():
        raise InputError(f"'{file}' holds no class for each Gaussian: label the scene anew")
    return colors_of_classes(classes)


def colors_of_classes(classes: Tensor) -> Tensor:
    """Colours of integer classes [G], 20 of them that then repeat; below 0 grey: uint8 [G, 3]."""
    from matplotlib import colormaps

    table = torch.from_numpy((colormaps["tab20"](np.arange(20))[:, :3] * 255).astype(np.uint8))
    colors = table[classes.long() % len(table)]
    colors[classes < 0] = _UNLABELLED
    return colors
