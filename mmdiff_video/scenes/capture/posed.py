"""Pictures with their cameras, on the way to a capture."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmdiff_video.scenes.capture.copies import Copy
from recon.lenses import Lens


@dataclass(frozen=True, kw_only=True, eq=False)
class Posed:
    """What is known of the pictures.

    Attributes:
        views: pictures with their pinhole lens and viewmat [4, 4] (float64, world-to-camera).
        dropped: pictures that have no camera.
        left_out: the original names of these -> why.
        points: [N, 3] float64, of the scene.
        rgb: [N, 3] uint8.
        reprojection_error: mean in pixels; None: not known.
        chosen: which settings won, or what became of given poses.
        attempts: of each way that was tried: its name and what came of it.
        camera: of the first picture, in words.
        seconds: by stage.
    """

    views: list[tuple[Copy, Lens, Tensor]]
    dropped: list[Copy] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    points: Tensor = field(default_factory=lambda: torch.zeros(0, 3, dtype=torch.float64))
    rgb: Tensor = field(default_factory=lambda: torch.zeros(0, 3, dtype=torch.uint8))
    reprojection_error: float | None = None
    chosen: str
    attempts: list[dict[str, Any]] = field(default_factory=list)
    camera: str
    seconds: dict[str, float] = field(default_factory=dict)
