"""What the tests of concept maps read."""

from typing import Any

import torch
from tiny_cards import ROWS
from torch import Tensor

from mmdiff_video.backbones import Backbone

#: Modules of the table whose row has a reader of concept maps.
CONCEPT_ROWS = [name for name, row in ROWS.items() if row.concepts is not None]

CONCEPTS = ("object", "background", "edges")
TIMES = (0.7, 0.2)


def latent(backbone: Backbone, count: int = 2) -> Tensor:
    frames = 3 if backbone.geometry.is_video else 1
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, backbone.geometry.channels, frames, 4, 6, generator=generator)


def read(backbone: Backbone, **changes: Any) -> Any:
    x0 = changes.pop("latent", latent(backbone))
    arguments = {"timesteps": TIMES, "concepts": CONCEPTS, "keys": ["a", "b"][: len(x0)]} | changes
    return backbone.extract_latent(x0, arguments.pop("prompt", "a red ball"), **arguments)
