"""Load a backbone by registered name, hub id or local diffusers folder."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import torch

from mmdiff_video.backbones.base import UNTRAINED_NOTICE, Backbone
from mmdiff_video.backbones.cards import backbone_names, load_card, shipped_weights
from mmdiff_video.backbones.components import load_pipeline
from mmdiff_video.backbones.describe import Description, describe
from mmdiff_video.backbones.hub import fetch_pipeline
from mmdiff_video.backbones.models import check_finite
from mmdiff_video.errors import InputError, unknown_name

logger = logging.getLogger(__name__)

_OFFLOADS = ("none", "model", "sequential")


def load_backbone(
    name_or_path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    offload: str = "none",
    vae_tiling: bool = False,
) -> Backbone:
    """Load a frozen backbone.

    Args:
        name_or_path: a registered name (:func:`backbone_names`), a hub id, a diffusers folder.
        device: where it computes; None means CUDA where there is one.
        dtype: of the transformer and text encoders; None means bfloat16 on CUDA, float32 elsewhere.
            Modules that a model keeps in float32 stay so.
        offload: ``model`` brings one component at a time to the accelerator, ``sequential`` one
            layer at a time (slow, smallest memory).
        vae_tiling: encode and decode large frames in overlapping tiles.

    Raises:
        InputError: an unknown name, weights that cannot be downloaded, an offload that cannot work,
            a folder that is not whole or not of a known family (:func:`load_pipeline`).
    """
    name_or_path = str(name_or_path)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if offload not in _OFFLOADS:
        raise unknown_name("offload", offload, _OFFLOADS)
    if offload != "none" and device.type == "cpu":
        raise InputError(f"offload '{offload}' moves weights to an accelerator; there is none here")
    if dtype is None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    known = describe(name_or_path)
    folder = _folder(name_or_path)
    pipeline = load_pipeline(folder, _dtypes(known, device, dtype))
    # Frames or samples one at a time; on a CPU larger convolution batches are faster.
    if device.type != "cpu":
        pipeline.vae.enable_slicing()
    if vae_tiling:
        pipeline.vae.enable_tiling()
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)

    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            check_finite(part, folder / name)

    backbone = Backbone(
        pipeline,
        known.family,
        name=name_or_path,
        defaults=known.defaults,
        untrained=known.untrained,
        fingerprint=fingerprint(folder),
        device=device,
        dtype=dtype,
    )
    if backbone.untrained:
        logger.warning("%s: %s", name_or_path, UNTRAINED_NOTICE)
    return backbone


def fingerprint(folder: Path) -> str:
    """Identify the weights and configs of a diffusers folder, wherever it lies."""
    # configs and weights of the components, linked ones too; not READMEs, examples or hidden files
    components = [c for c in folder.iterdir() if c.is_dir() and not c.name.startswith(".")]
    files = (path.relative_to(folder) for c in components for path in c.iterdir())
    return fingerprint_files(folder, files)


def fingerprint_files(folder: Path, paths: Iterable[Path]) -> str:
    """Identify the content of those files of a folder that ``paths`` below it name.

    Small files count whole; of a large weight file its size, its header and 64 evenly spaced pieces
    of 4 KiB, so that 14 billion parameters take well under a second. Modification times and the
    folder's name do not count.
    """
    digest = hashlib.blake2b(digest_size=16)
    for relative in sorted(paths):
        path = folder / relative
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{relative.as_posix()}\0{size}\0".encode(errors="surrogatepass"))
        with path.open("rb") as file:
            if size <= 64 * 2**20:
                digest.update(file.read())
                continue
            digest.update(file.read(2**20))
            for i in range(64):
                file.seek((size - 4096) * i // 63)
                digest.update(file.read(4096))
    return digest.hexdigest()


def _folder(name_or_path: str) -> Path:
    if name_or_path not in backbone_names():
        path = Path(name_or_path)
        return path if path.is_dir() else fetch_pipeline(name_or_path)
    source = load_card(name_or_path).source
    if source is not None:
        return fetch_pipeline(source)
    if shipped := shipped_weights(name_or_path):
        return shipped
    from mmdiff_video.backbones.nano.build import build_cached

    return build_cached(name_or_path)


def _dtypes(known: Description, device: torch.device, dtype: torch.dtype) -> dict[str, torch.dtype]:
    own = known.family.cuda_dtypes if device.type == "cuda" else {}
    return {"default": dtype, **own}
