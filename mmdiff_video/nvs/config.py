"""Everything a run of ``mmdiff-video train-3dgs`` is made of, as one typed config."""

from dataclasses import dataclass, field

from mmdiff_video.checks import check_fields, check_seed
from mmdiff_video.errors import InputError
from mmdiff_video.features.aggregators import (
    AGGREGATOR_VARIANTS,
    AdaptiveConfig,
    AggregatorConfig,
)
from mmdiff_video.features.source import BackboneConfig, CacheConfig
from mmdiff_video.training import TrainConfig
from recon.decoder import DecoderConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips, and what is sampled from them. None means the backbone's or the card's default.

    Attributes:
        name: a dataset card (``mmdiff-video data list``).
        root: the folder the data lies in.
        frames: input frames F of a clip, at least 2.
        height, width: pixels that input and target frames are resized and cropped to.
        targets: held-out views per sample.
        input_targets: input frames that are rendered and compared as well, chosen anew at each
            step. They keep the Gaussians true to the input; the held-out views make them right
            from elsewhere.
        eval_targets: held-out views per clip in evaluation.
        span: (least, most) frames between the first and last input frame of a sample.
        samplings_per_clip: this many fixed choices of frames per clip instead of a fresh one each
            epoch, so that the feature cache can serve them.
        max_clips: train on a seeded choice of this many clips (the paper: 1000).
        max_eval_clips: evaluate on a seeded choice of this many clips (the paper: 200).
        split_seed: the seed of both choices.
        eval_index: pixelSplat's evaluation index (JSON) instead of our own evaluation views.
    """

    name: str = "rooms"
    root: str | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    targets: int = 3
    input_targets: int = 1
    eval_targets: int = 8
    span: tuple[int, int] | None = None
    samplings_per_clip: int | None = None
    max_clips: int | None = None
    max_eval_clips: int | None = None
    split_seed: int = 0
    eval_index: str | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            "data.",
            frames=2,
            targets=1,
            input_targets=0,
            eval_targets=1,
            samplings_per_clip=1,
            max_clips=1,
            max_eval_clips=1,
        )
        check_seed("data.split_seed", self.split_seed)
        if self.span is not None and not 2 <= self.span[0] <= self.span[1]:
            raise InputError(f"data.span needs 2 <= least <= most, not {list(self.span)}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the training loss's terms (Lyra-1's where it states them).

    Attributes:
        mse: squared error of the rendered colours.
        ssim: 1 - SSIM of the rendered views (not Lyra's; 3D Gaussian Splatting weighs it 0.2). It
            rewards structure where there are no weights for the perceptual loss.
        perceptual: LPIPS (VGG); left out, with a notice, where its weights are not to be had.
        opacity: mean opacity of the Gaussians, which prunes those that explain nothing.
    """

    mse: float = 1.0
    ssim: float = 0.0
    perceptual: float = 0.5
    opacity: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "loss.", mse=0, ssim=0, perceptual=0, opacity=0)
        if not (self.mse or self.ssim or self.perceptual):
            raise InputError(
                "loss.mse, loss.ssim and loss.perceptual are all 0, so that no view is compared"
                " with its truth: give one of them a weight"
            )


@dataclass(frozen=True, kw_only=True)
class NVSConfig:
    """A run of ``mmdiff-video train-3dgs``.

    Attributes:
        input: what the decoder reads: ``features`` (aggregated taps) or ``latent`` (the clean
            latent of the clip), the two inputs that the paper's Table 9 compares.
        aggregation: how taps are fused over timesteps: ``adaptive`` (the paper's), ``static``,
            ``mean``, ``concat`` or ``single``.
        backbone, aggregator, decoder, data, cache, loss, train: see their classes.
    """

    input: str = "features"
    aggregation: str = "adaptive"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    aggregator: AggregatorConfig = field(
        default_factory=AdaptiveConfig, metadata=AGGREGATOR_VARIANTS.metadata
    )
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.input not in ("features", "latent"):
            raise InputError(f"input is 'features' or 'latent', not '{self.input}'")
