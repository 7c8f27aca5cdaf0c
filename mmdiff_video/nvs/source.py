"""Reads from the frozen backbone what a run's model takes in."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.features.cache import CachedExtractor, FeatureCache, entry_bytes
from mmdiff_video.features.types import DiTFeatures
from mmdiff_video.nvs.config import NVSConfig


class FeatureSource:
    """Taps and latents of clips, through the feature cache where the config has one.

    A run on latents asks for no taps, so that the transformer never runs.
    """

    def __init__(self, backbone: Backbone, config: NVSConfig):
        self.backbone = backbone
        self.config = config.backbone
        self.taps = () if config.input == "latent" else config.backbone.taps
        self.cache: FeatureCache | None = None
        self._extract = backbone.extract
        if config.cache.dir is not None:
            self.cache = FeatureCache(Path(config.cache.dir), budget_gb=config.cache.budget_gb)
            self._extract = CachedExtractor(backbone, self.cache).extract

    def __call__(
        self, video: Tensor, keys: Sequence[str], captions: Sequence[str | None] | None = None
    ) -> DiTFeatures:
        """Read clips.

        Args:
            video: [B, 3, F, H, W] in [0, 1].
            keys: name the samples for their noise.
            captions: prompts of the samples; the config's prompt where there is none.
        """
        prompt = self.config.prompt or self.backbone.defaults.prompt
        return self._extract(
            video,
            [caption or prompt for caption in captions or [None] * len(keys)],
            self.taps,
            self.config.timesteps,
            keys=keys,
            seed=self.config.seed,
            chunk=self.config.chunk,
        )

    def bytes_per_sample(self, frames: int, height: int, width: int) -> int:
        """Disk that one sample of this size takes in the cache."""
        return entry_bytes(
            self.backbone,
            self.taps,
            self.config.timesteps,
            frames=frames,
            height=height,
            width=width,
        )
