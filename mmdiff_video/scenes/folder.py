"""What lies where in the folder of a scene and in that of a capture."""

from pathlib import Path
from typing import Final

GAUSSIANS: Final = "scene.ply"
"""The fitted Gaussians, in the world of the capture."""

CAPTURE: Final = "capture"
"""A COLMAP project inside the scene: undistorted pictures, pinhole cameras, points."""

CAMERAS: Final = "transforms.json"
"""Of a scene: its pictures, which lie in :data:`CAPTURE`, with the cameras that the fit ended
with."""

REPORT: Final = "report.json"
"""Of a capture as of a scene: what was made of what, how well, in what time."""

LABELS: Final = "labels.safetensors"
"""What dense heads say of each Gaussian."""

LABELLED: Final = "labelled.ply"
"""The Gaussians in the colours of their labels."""

LABEL_MAPS: Final = "labels"
LIFT_REPORT: Final = "lift.json"

FLIGHT: Final = "flight.mp4"
COMPARISONS: Final = "comparisons.png"
PREVIEWS: Final = "previews"
CAMERAS_PICTURE: Final = "cameras.png"
"""Of a capture: its cameras and points from above and from the side."""


def is_scene(path: Path) -> bool:
    """Whether a folder is that of a fitted scene."""
    return (path / GAUSSIANS).is_file()
