"""What a run reads from its frozen backbone: the config that says so, and the reader."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from mmdiff_video.backbones import load_backbone
from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.checks import check_positive, check_seed
from mmdiff_video.errors import InputError
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import CachedExtractor, entry_bytes
from mmdiff_video.process import machine_memory, this_device
from mmdiff_video.tables import format_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The frozen diffusion transformer and how it is read. None means the backbone's own default.

    Attributes:
        name: a registered name (``mmdiff-video taps`` lists them), a hub id, or a local folder.
        taps: tap names or short forms.
        timesteps: the set T in [0, 1], 1 = noise.
        prompt: the text given with clips and pictures that have no caption of their own.
        seed: with the sample key, the only source of the noise added to clips.
        offload: ``none``, ``model`` or ``sequential``: keep weights on the CPU between uses.
        vae_tiling: encode and decode large frames in tiles.
        chunk: at most this many (sample, timestep) pairs in one forward; None: all that fit.
    """

    name: str = "nano-wan"
    taps: tuple[str, ...] | None = None
    timesteps: tuple[float, ...] | None = None
    prompt: str | None = None
    seed: int = 0
    offload: str = "none"
    vae_tiling: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_seed("backbone.seed", self.seed)

    def load(self) -> Backbone:
        """Load the backbone onto this process's device."""
        return load_backbone(
            self.name, device=this_device(), offload=self.offload, vae_tiling=self.vae_tiling
        )

    def completed(self, backbone: Backbone) -> "BackboneConfig":
        """Fill what is None from the backbone's defaults."""
        defaults = backbone.defaults
        return replace(
            self,
            taps=tuple(tap.name for tap in backbone.resolve_taps(self.taps)),
            timesteps=defaults.timesteps if self.timesteps is None else self.timesteps,
            prompt=defaults.prompt if self.prompt is None else self.prompt,
        )


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The on-disk feature cache. It pays when the config fixes what is seen of each sample.

    Attributes:
        dir: folder shared by all runs; None switches the cache off.
        budget_gb: least recently used entries beyond this many GiB are removed.
        form: number format of the maps: ``bf16``, or ``fp8`` for half the disk, which changes each
            value by up to 1/16.
    """

    dir: str | None = None
    budget_gb: float = 20.0
    form: str = "bf16"

    def __post_init__(self) -> None:
        check_positive("cache.budget_gb", self.budget_gb)

    def absolute(self) -> "CacheConfig":
        """Name the folder so that a run finds it from any other."""
        return self if self.dir is None else replace(self, dir=str(Path(self.dir).resolve()))


class ReadsFeatures(Protocol):
    """The part of a run's config that says what is read.

    Attributes:
        input: ``features`` or ``latent``.
        backbone: see :class:`BackboneConfig`.
        cache: see :class:`CacheConfig`.
    """

    @property
    def input(self) -> str: ...
    @property
    def backbone(self) -> BackboneConfig: ...
    @property
    def cache(self) -> CacheConfig: ...


def warn_of_other_weights(run: Path, trained_on: str | None, backbone: Backbone) -> None:
    """Log a warning when a trained run is opened with another backbone than it was trained on.

    Args:
        run: the run folder.
        trained_on: the fingerprint that it recorded, if any.
        backbone: what it is opened with.
    """
    if trained_on not in (None, backbone.fingerprint):
        logger.warning(
            "'%s' was trained on other weights of a backbone than those of '%s' now (fingerprint"
            " %s, not %s): what it gives is not what it learned",
            run,
            backbone.name,
            trained_on,
            backbone.fingerprint,
        )


class FeatureSource:
    """Taps and latents of clips, through the feature cache where the config has one.

    A run on latents asks for no taps, so that the transformer never runs.

    Args:
        backbone: the frozen one.
        config: of the run.
        concepts: words whose maps are read as well; none by default.

    Raises:
        InputError: an unknown form of the cache.
    """

    def __init__(self, backbone: Backbone, config: ReadsFeatures, concepts: Sequence[str] = ()):
        self.backbone = backbone
        self.config = config.backbone
        self.form = config.cache.form
        self.input = config.input
        self.taps = () if config.input == "latent" else config.backbone.taps
        self.cache: FeatureCache | None = None
        self.concepts = list(concepts)
        self._extract = backbone.extract
        if config.cache.dir is not None:
            self.cache = FeatureCache(Path(config.cache.dir), budget_gb=config.cache.budget_gb)
            self._extract = CachedExtractor(backbone, self.cache, config.cache.form).extract

    def __call__(
        self, video: Tensor, keys: Sequence[str], captions: Sequence[str | None] | None = None
    ) -> DiTFeatures:
        """Read clips.

        Args:
            video: [B, 3, F, H, W] in [0, 1].
            keys: name the samples for their noise.
            captions: prompts of the samples; the config's prompt where there is none.

        Raises:
            InputError: as :meth:`Backbone.extract`.
        """
        prompt = self.config.prompt
        if prompt is None:
            prompt = self.backbone.defaults.prompt
        return self._extract(
            video,
            [prompt if c is None else c for c in captions or [None] * len(keys)],
            self.taps,
            self.config.timesteps,
            keys=keys,
            seed=self.config.seed,
            chunk=self.config.chunk,
            concepts=self.concepts,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What the features depend on, the weights too: a run that goes on must find the same.

        Plain JSON values. Where and how fast they are computed does not count.
        """
        return {
            "input": self.input,
            "backbone_weights": self.backbone.fingerprint,
            "taps": list(self.taps or ()),
            "timesteps": list(self.config.timesteps or ()),
            "prompt": self.config.prompt,
            "text_tokens": self.backbone.defaults.text_tokens,
            "guidance": self.backbone.defaults.extract_guidance,
            "noise_seed": self.config.seed,
            "concepts": self.concepts,
        }

    def check_memory(self, frames: int, height: int, width: int, batch: int = 1) -> None:
        """Refuse samples that cannot be read here, before the system ends the process for it.

        Args:
            frames, height, width: size of a sample, in pixels.
            batch: how many are read at once.

        Raises:
            InputError: pixels and features of the samples are larger than this machine's memory.
        """
        pixels = 3 * 4 * frames * height * width
        size = batch * (pixels + self.bytes_per_sample(frames, height, width))
        if size > machine_memory():
            samples = "one sample" if batch == 1 else f"a batch of {batch} samples"
            raise InputError(
                f"the features of {samples} of {frames} x {height} x {width} (frames x height x"
                f" width) take {format_bytes(size)}, this machine has"
                f" {format_bytes(machine_memory())}: take a smaller size or batch, or fewer taps or"
                " timesteps"
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
            concepts=self.concepts,
            form=self.form,
        )
