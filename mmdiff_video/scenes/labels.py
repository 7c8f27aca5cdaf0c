"""Labels of a scene on disk."""

from pathlib import Path

from torch import Tensor


def label_colors(scene: Path) -> Tensor | None:
    """Colours, uint8 [G, 3], of the labels of a scene's Gaussians; None: it has no labels."""
    return None
