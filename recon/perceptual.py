"""LPIPS (Zhang et al. 2018, VGG variant) and where its weights come from.

The ``lpips`` package ships the learned linear layers; the VGG16 below them is torchvision's, half a
gigabyte that not every machine has or can fetch. :func:`load_lpips` says so instead of failing.
"""

import os
import socket
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

WEIGHTS_VARIABLE = "MMDIFF_LPIPS_WEIGHTS"
VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
DOWNLOAD_TIMEOUT_S = 10.0
MIN_SIZE = 16
"""VGG16 halves the image four times."""


@dataclass(frozen=True)
class LpipsUnavailable:
    """Why there is no LPIPS (or ST-LPIPS) on this machine, in one line that says what to do."""

    reason: str


class Lpips(nn.Module):
    """LPIPS with frozen weights, in float32 whether or not autocast is on.

    Args:
        vgg16: a torchvision VGG16 state dict; only its ``features.*`` are read.

    Raises:
        ValueError: the state dict lacks a VGG16 layer, or has it in another shape or with what is
            no number.
    """

    def __init__(self, vgg16: Mapping[str, Tensor]):
        super().__init__()
        import lpips

        # The package builds a random VGG16 first: keep that out of the caller's random numbers.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torchvision")
            self.model = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
        trunk = self.model.net
        weights = {}
        for name, own in trunk.state_dict().items():
            layer = f"features.{name.partition('.')[2]}"  # slice2.7.weight -> features.7.weight
            given = vgg16.get(layer)
            if not isinstance(given, Tensor) or given.shape != own.shape:
                has = f"is {tuple(given.shape)}" if isinstance(given, Tensor) else "is missing"
                raise ValueError(f"VGG16 layer {layer} of shape {tuple(own.shape)} {has}")
            if not given.is_floating_point() or not given.isfinite().all():
                raise ValueError(f"VGG16 layer {layer} holds codes, NaN or infinity")
            weights[name] = given
        trunk.load_state_dict(weights)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Lpips":
        """Stay in evaluation mode: the linear layers have dropout in front."""
        return super().train(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Perceptual distance per image, [N]; differentiable.

        Args:
            images, targets: [N, 3, H, W] in [0, 1], at least 16 pixels each way.

        Raises:
            ValueError: images that are too small.
        """
        if min(images.shape[-2:]) < MIN_SIZE:
            raise ValueError(
                f"LPIPS needs images of at least {MIN_SIZE} x {MIN_SIZE} pixels,"
                f" not {images.shape[-2]} x {images.shape[-1]}"
            )
        with torch.autocast(images.device.type, enabled=False):
            return self.model(images.float(), targets.float(), normalize=True).flatten()


def load_lpips(device: torch.device | str = "cpu") -> Lpips | LpipsUnavailable:
    """Load LPIPS with the first VGG16 weights found.

    Looked for in this order: the file named by ``MMDIFF_LPIPS_WEIGHTS`` (a torchvision VGG16 state
    dict, .pth or .safetensors), torch's hub cache, and a download into that cache, which is tried
    once per process.

    Returns:
        the model on ``device``, or the reason why there is none.

    Raises:
        ValueError: a file was found, or named, that is not a VGG16 state dict.
    """
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        path, remedy = Path(named), f"let {WEIGHTS_VARIABLE} name a torchvision VGG16 state dict"
    else:
        path = Path(torch.hub.get_dir()) / "checkpoints" / VGG16_URL.rpartition("/")[2]
        remedy = "delete it"
        if not path.is_file():
            failure = _download_vgg16(path)
            if failure is not None:
                return LpipsUnavailable(failure)
    try:
        return Lpips(read_state_dict(path)).to(device)
    except (OSError, ValueError) as error:
        raise ValueError(f"LPIPS weights '{path}' cannot be used ({error}): {remedy}") from None


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a .pth or .safetensors file, without running any code in it.

    Raises:
        ValueError: it holds something else, or is cut short.
        OSError: it is missing or cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # on a foreign file the unpickler fails with KeyError, IndexError and more
        raise ValueError("not a file of plain weights") from None
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not a state dict")
    return state


@cache
def _download_vgg16(path: Path) -> str | None:
    """Fetch the weights to ``path``; returns why that failed, or None."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes beside the path, checks the hash that the name ends in, then renames.
        torch.hub.download_url_to_file(VGG16_URL, str(path), hash_prefix="397923af")
    except (OSError, RuntimeError, HTTPException) as error:
        cause = str(error).strip().partition("\n")[0]
        return (
            f"no VGG16 weights for LPIPS and {VGG16_URL} could not be downloaded ({cause}):"
            f" put the file at {path} or name it in {WEIGHTS_VARIABLE}"
        )
    finally:
        socket.setdefaulttimeout(timeout)
    return None
