"""Matches of a few pairs of pictures without COLMAP: SIFT of kornia, which needs no weights."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from mmdiff_video.datasets.picture_files import read_rgb
from recon.capture.consistency import Matches
from recon.lenses import Lens, undistort_points

_CHAINS, _LINKS = 3, 2
_STEP = 5
"""How many places the pictures of a pair are apart."""

_FEATURES = 600
_LONGEST_SIDE = 480
"""Pixels: larger pictures are shrunk, as a few hundred matches tell enough."""

_RATIO = 0.8
"""Of the distances to the best and to the next descriptor (Lowe)."""


def match_few(files: Sequence[Path], lenses: Sequence[Lens]) -> list[Matches]:
    """Match pairs of pictures in short chains that are spread over all.

    Args:
        files: of the pictures.
        lenses: of them.
    """
    count = len(files)
    step = max(1, min(_STEP, (count - 1) // _LINKS))
    last = max(0, count - 1 - _LINKS * step)
    starts = torch.linspace(0, last, _CHAINS).round().long().unique().tolist()
    chains = [range(start, start + _LINKS * step + 1, step) for start in starts]
    pairs = sorted({pair for chain in chains for pair in pairwise(chain) if pair[1] < count})
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for number in sorted({number for pair in pairs for number in pair}):
        found[number] = _features(files[number], lenses[number])
    return [match for a, b in pairs if (match := _matched(a, b, found)) is not None]


def _features(file: Path, lens: Lens) -> tuple[Tensor, Tensor]:
    """Rays [N, 2] (float64) and descriptors [N, 128] of a picture."""
    import kornia

    grey = torch.from_numpy(read_rgb(file)).float().mean(-1)[None, None] / 255
    height, width = grey.shape[-2:]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = round(height * scale), round(width * scale)
        grey = torch.nn.functional.interpolate(grey, size, mode="area")
    with torch.inference_mode():
        frames, _, descriptors = kornia.feature.SIFTFeature(_FEATURES)(grey)
    ratio = torch.tensor([width / grey.shape[-1], height / grey.shape[-2]])
    # kornia counts from the first pixel's centre, we from its corner
    pixels = (frames[0, :, :, 2] + 0.5) * ratio
    return undistort_points(pixels.double(), lens), descriptors[0].clone()


def _matched(a: int, b: int, found: dict[int, tuple[Tensor, Tensor]]) -> Matches | None:
    import kornia

    (rays_a, one), (rays_b, other) = found[a], found[b]
    if min(len(one), len(other)) < 2:
        return None
    _, pairs = kornia.feature.match_smnn(one, other, _RATIO)
    return Matches(a, b, torch.stack([rays_a[pairs[:, 0]], rays_b[pairs[:, 1]]]))
