"""The corpus as the DiT sees it: latents encoded once, mirrored too, kept beside the clips.

    CORPUS/latents-VAE-HEIGHTxWIDTH/train-00000.npy      float16 [2 * clips, c, F, h, w]

Clip i of a shard has rows 2i and 2i + 1, the second mirrored left to right. Latents of unit
deviation lose less in float16 than in bfloat16, and numpy can map it.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.captions import mirrored_caption
from mmdiff_video.files import read_json, remove_partials, write_aside
from mmdiff_video.locks import writer_in_turn
from mmdiff_video.pretraining.corpus import Corpus, map_shard
from mmdiff_video.pretraining.sealed import read_weights
from mmdiff_video.pretraining.vae import halved
from mmdiff_video.tensors import tensor_bytes

logger = logging.getLogger(__name__)

Encode = Callable[[NDArray[np.uint8]], Tensor]

_PIXELS = {"cpu": 2**21, "cuda": 2**24}
"""Pixels encoded together: enough for full speed, little enough for memory."""


class Latents:
    """Latents and captions of one split, made when they are missing.

    Args:
        corpus: the clips.
        vae_folder: the diffusers folder of the VAE, whose encoder names the latents' folder.
        encode: uint8 clips [B, F, H, W, 3] -> normalised latents [B, c, F, h, w].
        half_size: scale the pictures to half their size first.
        frames: how many of a clip's latent frames to give out, from its first on; 0 means all.
    """

    def __init__(
        self,
        corpus: Corpus,
        vae_folder: Path,
        encode: Encode,
        *,
        half_size: bool = False,
        frames: int = 0,
    ):
        self.frames = frames or None
        height, width = (side // (2 if half_size else 1) for side in corpus.clip(0).shape[1:3])
        folder = corpus.folder / f"latents-{encoder_digest(vae_folder)}-{height}x{width}"
        folder.mkdir(exist_ok=True)
        self.shard_clips = corpus.shard_clips
        files = [folder / f"{corpus.split}-{i:05d}.npy" for i in range(corpus.shards)]
        if not all(file.is_file() for file in files):
            # another run may be encoding the same: what it has done by then is not done again
            with writer_in_turn(folder, "encoding latents"):
                remove_partials(folder)
                _encode_missing(corpus, files, encode, half_size=half_size)
        rows = (2 * self.shard_clips, -1, -1, -1, -1)
        self._shards: list[NDArray[np.float16]] = [
            map_shard(file, np.float16, rows) for file in files
        ]
        self.captions = [c for own in corpus.captions for c in (own, mirrored_caption(own))]
        self.keys = [f"{corpus.key(i // 2)}/{i % 2}" for i in range(len(self.captions))]

    def __len__(self) -> int:
        return len(self.captions)

    def latent(self, index: int) -> Tensor:
        """Read a latent [c, F, h, w], float16; odd indices are mirrored."""
        shard, within = divmod(index, 2 * self.shard_clips)
        return torch.from_numpy(np.array(self._shards[shard][within][:, : self.frames]))


def vae_encoder(backbone: Backbone, *, bf16: bool) -> Encode:
    """Make the ``encode`` of :class:`Latents` from a backbone."""

    device = backbone.device
    together = _PIXELS.get(device.type, _PIXELS["cpu"])

    def encode(clips: NDArray[np.uint8]) -> Tensor:
        latents = []
        for part in torch.from_numpy(clips).split(max(1, together // clips[0, ..., 0].size)):
            video = part.to(device).movedim(-1, 1).float() / 255
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                latents.append(backbone.encode(video))
        return torch.cat(latents)

    return encode


def _encode_missing(
    corpus: Corpus, files: Sequence[Path], encode: Encode, *, half_size: bool
) -> None:
    missing = [i for i, file in enumerate(files) if not file.is_file()]
    started = time.monotonic()
    for done, i in enumerate(missing):
        _encode_shard(corpus.shard(i), files[i], encode, half_size=half_size)
        left = (time.monotonic() - started) / (done + 1) * (len(missing) - done - 1)
        logger.info("%s: %d of %d, left %.0f s", files[i], done + 1, len(missing), left)


def _encode_shard(clips: NDArray[np.uint8], file: Path, encode: Encode, *, half_size: bool) -> None:
    if half_size:
        clips = np.stack([halved(clip) for clip in clips])
    both = np.stack([clips, clips[:, :, :, ::-1]], axis=1)  # [B, 2, F, H, W, 3]
    latents = encode(both.reshape(-1, *clips.shape[1:]))
    with write_aside(file) as aside:
        np.save(aside, latents.cpu().numpy().astype(np.float16))


def encoder_digest(folder: Path) -> str:
    """Hash what latents depend on in a VAE's folder: all but its decoder, which may change."""
    digest = hashlib.blake2b(digest_size=6)
    config = read_json(folder / "config.json")
    kept = {k: v for k, v in config.items() if not k.startswith(("_", "decoder"))}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for path in sorted(folder.glob("*.safetensors")):
        weights = read_weights(path)
        for name in sorted(weights):
            if not name.startswith(("decoder.", "post_quant_conv.")):
                digest.update(name.encode())
                digest.update(tensor_bytes(weights[name]))
    return digest.hexdigest()
