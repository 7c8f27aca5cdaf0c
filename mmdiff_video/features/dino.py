"""Discriminative features that can stand beside a diffusion transformer's: DINOv3 (paper Sec. 3.3).

Off unless a task asks for them. The weights are Meta's and gated; a local folder does as well.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiff_video.backbones.hub import fetch, is_hub_id
from mmdiff_video.backbones.model_files import read_config
from mmdiff_video.backbones.models import check_finite, load_model
from mmdiff_video.backbones.registry import fingerprint_files
from mmdiff_video.backbones.taps import run_up_to, tapped
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.features.cache import Entry, FeatureCache, address_of

#: Short name -> hub id.
DINO_MODELS = {
    "dinov3-s": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "dinov3-b": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "dinov3-l": "facebook/dinov3-vitl16-pretrain-lvd1689m",
}

# ImageNet's, with which DINOv3 was trained
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

_FILES = ("config.json", "*.safetensors", "*.safetensors.index*.json")


class DinoFeatures:
    """A frozen DINOv3 ViT, read at chosen layers.

    Args:
        model: a transformers ``DINOv3ViTModel``; it is frozen and set to eval mode.
        layers, fingerprint: see the attributes.

    Attributes:
        layers: blocks that are read, counted from 0; layer 11 of ViT-B is its last.
        channels: C of what a call returns: the width times the number of layers.
        fingerprint: identifies the weights, for the feature cache.

    Raises:
        InputError: no layer, one given twice, or one that there is not.
    """

    def __init__(self, model: Any, layers: Sequence[int], fingerprint: str):
        from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTLayer

        blocks = [module for module in model.modules() if isinstance(module, DINOv3ViTLayer)]
        if not layers or len(set(layers)) < len(layers):
            raise InputError(f"DINO layers must be distinct and at least one, not {list(layers)}")
        for layer in layers:
            if not 0 <= layer < len(blocks):
                raise InputError(f"no DINO layer {layer}; valid: 0 to {len(blocks) - 1}")
        self.model = model.eval().requires_grad_(False)
        self.layers = tuple(layers)
        self.fingerprint = fingerprint
        self.channels = model.config.hidden_size * len(layers)
        self._blocks: dict[str, nn.Module] = {str(i): blocks[i] for i in self.layers}
        self._last = blocks[max(self.layers)]

    @torch.no_grad()
    def __call__(self, video: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Read a video onto a token grid.

        Frames are seen one by one, in their own size (rounded to whole patches). The class and
        register tokens are dropped, each layer's patch tokens pass through the model's final
        LayerNorm, as in DINOv3's own evaluations, and are resized bilinearly. Where the grid has
        fewer frames than the video, every latent frame takes the last of its frames.

        Args:
            video: [B, 3, F, H, W] in [0, 1], on any device.
            grid: (F', H', W').

        Returns:
            [B, channels, F', H', W'] on the model's device, layers in the order asked for.
        """
        frames = video.shape[2]
        chosen = [round(i * (frames - 1) / max(grid[0] - 1, 1)) for i in range(grid[0])]
        pictures = video[:, :, chosen].transpose(1, 2).flatten(0, 1)  # [B * F', 3, H, W]
        maps = self._read(self._prepared(pictures))
        if maps.shape[2:] != grid[1:]:
            smaller = maps.shape[2] > grid[1] or maps.shape[3] > grid[2]
            maps = F.interpolate(maps.float(), grid[1:], mode="bilinear", antialias=smaller)
        return maps.unflatten(0, (-1, grid[0])).transpose(1, 2).to(self.model.dtype)

    def _prepared(self, pictures: Tensor) -> Tensor:
        patch = self.model.config.patch_size
        size = [max(round(side / patch), 1) * patch for side in pictures.shape[2:]]
        pictures = pictures.to(self.model.device, torch.float32)
        if size != list(pictures.shape[2:]):
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        mean, std = (pictures.new_tensor(v).reshape(3, 1, 1) for v in (_MEAN, _STD))
        return (pictures - mean) / std

    def _read(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, channels, H / patch, W / patch]."""
        patch = self.model.config.patch_size
        height, width = (side // patch for side in pictures.shape[2:])
        found: dict[str, Tensor] = {}

        def keep(layer: str, tokens: Tensor) -> None:
            # class and register tokens come first
            patches = self.model.norm(tokens[:, -height * width :])
            found[layer] = patches.transpose(1, 2).unflatten(2, (height, width))

        with tapped(self._blocks, keep):
            run_up_to(self.model, self._last, lambda: self.model(pictures))
        return torch.cat([found[str(layer)] for layer in self.layers], dim=1)


class CachedDino:
    """Stands in for :class:`DinoFeatures`, and asks it only for clips not in the feature cache.

    Maps are kept in the model's own number format, whatever the form of taps: they are few beside
    those, and lose nothing.

    Args:
        dino: what is asked.
        cache: may hold a backbone's features too.
    """

    def __init__(self, dino: DinoFeatures, cache: FeatureCache):
        self.dino = dino
        self.cache = cache
        self.channels = dino.channels

    @torch.no_grad()
    def __call__(self, video: Tensor, grid: tuple[int, int, int]) -> Tensor:
        ingredients = {
            "dino": self.dino.fingerprint,
            "dtype": str(self.dino.model.dtype),
            "layers": list(self.dino.layers),
            "grid": list(grid),
        }

        def read(missing: list[int]) -> list[Entry]:
            return [Entry({"dino": maps}, ()) for maps in self.dino(video[missing], grid)]

        entries = self.cache.fetch([address_of(clip, ingredients) for clip in video], read)
        return torch.stack([e.tensors["dino"].to(self.dino.model.device) for e in entries])

    def entry_bytes(self, grid: tuple[int, int, int]) -> int:
        """Bytes that one clip takes in the cache."""
        return self.channels * math.prod(grid) * self.dino.model.dtype.itemsize


def load_dino(
    name_or_path: str | Path = "dinov3-b",
    device: torch.device | str | None = None,
    layers: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> DinoFeatures:
    """Load a DINOv3 ViT.

    Args:
        name_or_path: ``dinov3-s``, ``dinov3-b``, ``dinov3-l``, a hub id, or a folder with
            config.json and model.safetensors.
        device: None means CUDA where there is one.
        layers: blocks to read, counted from 0; None: :func:`default_layers`.
        dtype: of the model and of what it returns.

    Raises:
        InputError: an unknown name, weights that cannot be downloaded (with what to do), a folder
            with another model or one that is not whole, a layer that there is not.
    """
    from transformers import DINOv3ViTModel

    folder = _folder(str(name_or_path))
    try:
        kind = read_config(folder / "config.json").get("model_type")
        if kind != "dinov3_vit":
            raise InputError(f"it holds a {kind} model")
        model = load_model(DINOv3ViTModel, folder, dtype)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        check_finite(model, folder)
    except InputError as error:
        raise InputError(
            f"'{folder}' cannot be loaded as a DINOv3 ViT: {error}"
        ) from error.__cause__
    return DinoFeatures(
        model,
        default_layers(model.config.num_hidden_layers) if layers is None else layers,
        fingerprint_files(folder, (Path(p.name) for end in _FILES for p in folder.glob(end))),
    )


def default_layers(depth: int) -> tuple[int, int]:
    """2 and 11 of the twelve blocks of ViT-S and ViT-B (paper, Fig. 6); as deep in other models."""
    return round((depth - 1) * 2 / 11), depth - 1


def _folder(name_or_path: str) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    hub_id = DINO_MODELS.get(name_or_path, name_or_path)
    if not is_hub_id(hub_id):
        raise unknown_name(
            "DINO model", name_or_path, [*DINO_MODELS, "a hub id (org/name)", "a folder"]
        )
    return fetch(hub_id, _FILES, instead="folder of a DINOv3 ViT")
