"""mmdiff-video: turn frozen diffusion transformers into 3D and dense-perception models.

What most programs need is here, and is imported when it is first used::

    from mmdiff_video import load_backbone

    features = load_backbone("nano-wan").extract(video, keys=["my clip"])
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmdiff_video.version import __version__

if TYPE_CHECKING:
    from mmdiff_video.backbones import backbone_names as list_backbones
    from mmdiff_video.backbones import load_backbone
    from mmdiff_video.backbones.features import DiTFeatures
    from mmdiff_video.dense.pipeline import DenseModel
    from mmdiff_video.features.aggregators import build_aggregator
    from mmdiff_video.nvs.pipeline import Reconstructor

__all__ = [
    "DenseModel",
    "DiTFeatures",
    "Reconstructor",
    "__version__",
    "build_aggregator",
    "list_backbones",
    "load_backbone",
]

_PLACES = {
    "DenseModel": ("mmdiff_video.dense.pipeline", "DenseModel"),
    "DiTFeatures": ("mmdiff_video.backbones.features", "DiTFeatures"),
    "Reconstructor": ("mmdiff_video.nvs.pipeline", "Reconstructor"),
    "build_aggregator": ("mmdiff_video.features.aggregators", "build_aggregator"),
    "list_backbones": ("mmdiff_video.backbones", "backbone_names"),
    "load_backbone": ("mmdiff_video.backbones", "load_backbone"),
}
"""Public name -> where it is defined, and under which name."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'mmdiff_video' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
