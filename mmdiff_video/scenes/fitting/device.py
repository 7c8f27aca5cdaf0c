"""Where a fit runs: on the GPU where gsplat works, else on the processor."""

import torch

from mmdiff_video.errors import InputError
from recon.rasterize import auto_engine


def device_of(engine: str) -> torch.device:
    """The device that an engine takes tensors on; ``auto`` prefers a GPU with gsplat.

    Raises:
        InputError: ``gsplat`` was asked for, and there is no GPU or no gsplat.
    """
    if engine not in ("auto", "gsplat"):
        return torch.device("cpu")
    works = torch.cuda.is_available() and auto_engine("cuda").name == "gsplat"
    if engine == "gsplat" and not works:
        raise InputError(
            "--engine gsplat needs an NVIDIA GPU and gsplat, and does not work here"
            " (mmdiff-video doctor says why): take --engine cpu"
        )
    return torch.device("cuda" if works else "cpu")
