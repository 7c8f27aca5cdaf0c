"""Two textured walls at different depths, filmed by a camera that walks sideways."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from recon.lenses import Lens


def textured(seed: int = 0) -> np.ndarray:
    """A wall with blobs of all sizes, [240, 600, 3]."""
    rng = np.random.default_rng(seed)
    wall = np.zeros((240, 600, 3), np.float32)
    for size in (4, 8, 16, 32):
        small = rng.uniform(0, 255, (240 // size + 1, 600 // size + 1, 3)).astype(np.uint8)
        wall += np.asarray(Image.fromarray(small).resize((600, 240), Image.Resampling.BICUBIC))
    return (wall / 4).astype(np.uint8)


def true_viewmats(shifts: list[int]) -> torch.Tensor:
    """Of :func:`filmed`: a camera of focal length 300 whose far wall is 3 away, the near one 1."""
    viewmats = torch.eye(4, dtype=torch.float64).repeat(len(shifts), 1, 1)
    viewmats[:, 0, 3] = -torch.tensor(shifts, dtype=torch.float64) / 100
    return viewmats


LENS = Lens(width=320, height=240, fx=300, fy=300, cx=160, cy=120)


def filmed(folder: Path, shifts: list[int]) -> list[str]:
    """Two walls at different depths, the nearer one in the lower half, from a moving camera."""
    near, far = textured(0), textured(1)
    folder.mkdir()
    for i, shift in enumerate(shifts):
        picture = far[:, 100 + shift : 420 + shift].copy()
        picture[120:] = near[120:, 100 + 3 * shift : 420 + 3 * shift]
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return [f"{i:03d}.png" for i in range(len(shifts))]
