"""The corpus as the DiT sees it: latents encoded once, mirrored too, kept beside the clips.

    CORPUS/latents-VAE-HEIGHTxWIDTH/train-00000.npy      float16 [2 * clips, c, F, h, w]

Clip i of a shard has rows 2i and 2i + 1, the second mirrored left to right. Latents of unit
deviation lose less in float16 than in bfloat16, and numpy can map it.
"""

import hashlib
import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.files import write_aside
from mmdiff_video.pretraining.corpus import Corpus
from mmdiff_video.pretraining.vae import halved

logger = logging.getLogger(__name__)

Encode = Callable[[NDArray[np.uint8]], Tensor]

_PIXELS = {"cpu": 2**21, "cuda": 2**24}
"""Pixels encoded together: enough for full speed, little enough for memory."""


class Latents:
    """Latents and captions of one split, made when they are missing.

    Those of a corpus that grows have the length that it will have; an index whose clip is not there
    yet stands for one of those that are (:meth:`there`).

    Args:
        corpus: the clips.
        vae_folder: the diffusers folder of the VAE, whose encoder names the latents' folder.
        encode: uint8 clips [B, F, H, W, 3] -> normalised latents [B, c, F, h, w]; None leaves that
            to another process, and opens what is encoded.
        half_size: scale the pictures to half their size first.
        frames: how many of a clip's latent frames to give out, from its first on; 0 means all.
    """

    def __init__(
        self,
        corpus: Corpus,
        vae_folder: Path,
        encode: Encode | None,
        *,
        half_size: bool = False,
        frames: int = 0,
    ):
        self.corpus, self.frames = corpus, frames or None
        self._encode, self._half_size = encode, half_size
        height, width = (side // (2 if half_size else 1) for side in corpus.clip(0).shape[1:3])
        self.folder = corpus.folder / f"latents-{encoder_digest(vae_folder)}-{height}x{width}"
        self.folder.mkdir(exist_ok=True)
        self._shards: list[NDArray[np.float16]] = []
        self.captions: list[str] = []
        self._open()

    def __len__(self) -> int:
        return 2 * self.corpus.clips

    def there(self, index: int) -> int:
        """Return the index itself, or one of a clip that is there in its place."""
        return index % len(self.captions)

    def latent(self, index: int) -> Tensor:
        """Read a latent [c, F, h, w], float16; odd indices are mirrored."""
        shard, within = divmod(index, 2 * self.corpus.shard_clips)
        return torch.from_numpy(np.array(self._shards[shard][within][:, : self.frames]))

    def key(self, index: int) -> str:
        """Name of a latent, from which fixed noise can be drawn."""
        return f"{self.corpus.key(index // 2)}/{index % 2}"

    def grow(self) -> bool:
        """Encode and open what was rendered since; returns whether there was anything."""
        before = len(self.captions)
        self.corpus.open_new()
        self._open()
        return len(self.captions) > before

    def _open(self) -> None:
        new = {
            self.folder / f"{self.corpus.split}-{i:05d}.npy": i
            for i in range(len(self._shards), self.corpus.shards)
        }
        if self._encode is not None:
            self._encode_missing(new, self._encode)
        for file in itertools.takewhile(Path.is_file, new):
            self._shards.append(np.load(file, mmap_mode="r"))
        there = len(self._shards) * self.corpus.shard_clips
        for own in self.corpus.captions[len(self.captions) // 2 : there]:
            self.captions += [own, mirrored_caption(own)]

    def _encode_missing(self, shards: Mapping[Path, int], encode: Encode) -> None:
        missing = [file for file in shards if not file.is_file()]
        started = time.monotonic()
        for done, file in enumerate(missing, 1):
            _encode_shard(self.corpus.shard(shards[file]), file, encode, half_size=self._half_size)
            left = (time.monotonic() - started) / done * (len(missing) - done)
            logger.info("%s: %d of %d, left %.0f s", file, done, len(missing), left)


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


def mirrored_caption(caption: str) -> str:
    """Say right for left and left for right.

    >>> mirrored_caption("A lamp to the left of a bed; Left: a rug.")
    'A lamp to the right of a bed; Right: a rug.'
    """
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b([Ll]eft|[Rr]ight)\b", lambda match: other[match[0]], caption)


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
    config = json.loads((folder / "config.json").read_text())
    kept = {k: v for k, v in config.items() if not k.startswith(("_", "decoder"))}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for path in sorted(folder.glob("*.safetensors")):
        weights = load_file(path)
        for name in sorted(weights):
            if not name.startswith(("decoder.", "post_quant_conv.")):
                digest.update(name.encode())
                digest.update(weights[name].view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
