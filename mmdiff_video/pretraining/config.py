"""What a pretraining run is made of, as typed configs: see ``configs/pretrain``."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmdiff_video.checks import check_fields, check_name
from mmdiff_video.config import load_config
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.pretraining.corpus import CorpusConfig
from mmdiff_video.pretraining.flow import OBJECTIVES
from mmdiff_video.pretraining.timesteps import FlowConfig, check_timesteps
from mmdiff_video.resources import find_config
from mmdiff_video.training import TrainConfig
from mmdiff_video.training.schedules import SCHEDULES

BACKBONES = ("nano-wan", "nano-flux")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One part of a training: what differs from the ``train`` node.

    A stage starts from the averaged weights of the one before, with a fresh optimiser, and has a
    run folder of its own inside that of the training: RUN/NAME.

    Attributes:
        name: of the stage and its folder; unique among the stages.
        steps, batch_size, lr, schedule: see :class:`TrainConfig`.
        corpus: the stage's own, such as single pictures of many rooms, which are cheaper to draw
            than clips; None: the corpus of the whole training.
    """

    name: str = "stage"
    steps: int = 10_000
    batch_size: int = 2
    lr: float = 5e-3
    schedule: str = "constant"
    corpus: CorpusConfig | None = None

    def __post_init__(self) -> None:
        check_name("the name of a stage", self.name)
        check_fields(self, f"stage '{self.name}': ", steps=1, batch_size=1, lr=0)
        if self.schedule not in SCHEDULES:
            raise unknown_name(f"schedule of stage '{self.name}'", self.schedule, SCHEDULES)

    def over(self, train: TrainConfig) -> TrainConfig:
        """Replace the run's settings by the stage's; warm-up is a tenth of its steps at most."""
        return replace(
            train,
            steps=self.steps,
            warmup_steps=min(train.warmup_steps, self.steps // 10),
            batch_size=self.batch_size,
            lr=self.lr,
            schedule=self.schedule,
        )


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Weights of the reconstruction loss.

    Attributes:
        mse: mean squared error of pixels in [-1, 1]. Learns colours early, which L1 alone is slow
            to do; the frames with the largest error weigh most.
        log_mse: mean over frames of the logarithm of the squared error, which is PSNR but for a
            factor (Chen et al. 2022, NAFNet): every frame weighs the same.
        l1: mean absolute error.
        gradient: mean absolute error of the differences between neighbouring pixels, at full, half
            and quarter size. Keeps edges sharp where there are no weights for ``perceptual``.
        perceptual: LPIPS of single frames; left out, with a log line, where VGG16's weights are not
            on the machine.
        kl: divergence from the unit normal, mean over the latent's elements.
    """

    mse: float = 4.0
    log_mse: float = 0.0
    l1: float = 0.5
    gradient: float = 0.5
    perceptual: float = 0.1
    kl: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class VAEStageConfig(StageConfig):
    """One part of a VAE's training.

    Attributes:
        frames: of a crop; 1 for an image VAE.
        crop: side of the square crops, in pixels; a multiple of 16.
        half_size: share of the crops taken from pictures scaled to half their size, in [0, 1].
        decoder_only: train the decoder alone, on the posterior's mean. The encoder stays as it is,
            and so do all latents.
        loss: the stage's own; None: the loss of the whole training.
    """

    frames: int = 9
    crop: int = 48
    half_size: float = 0.0
    decoder_only: bool = False
    loss: VAELossConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 1 or self.crop % 16:
            raise InputError(f"stage '{self.name}': crop {self.crop} is not a multiple of 16")


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The training of a nano backbone's VAE.

    Attributes:
        backbone: ``nano-wan`` or ``nano-flux``, whose card has the architecture.
        base_dim, decoder_base_dim: widths of encoder and decoder, for nano-wan; None: the card's. A
            narrow VAE learns fast, and a second run can start from it (``--init``) with multiples
            of its widths.
        corpus: see :class:`CorpusConfig`.
        loss: see :class:`VAELossConfig`.
        stages: trained one after the other.
        train: what the stages share; validation runs at every preview (``preview_every``).
        threads: CPU threads; 0 leaves torch's own number.
    """

    backbone: str = "nano-wan"
    base_dim: int | None = None
    decoder_base_dim: int | None = None
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    stages: list[VAEStageConfig] = field(default_factory=lambda: [VAEStageConfig()])
    train: TrainConfig = field(default_factory=lambda: TrainConfig(optimizer="muon"))
    threads: int = 0

    def __post_init__(self) -> None:
        check_stages(self.backbone, self.stages)
        for name, width in self.widths().items():
            if self.backbone != "nano-wan":
                raise InputError(f"{name} is for nano-wan only")
            if width < 1:
                raise InputError(f"{name} is {width}: it must be 1 or more")

    def widths(self) -> dict[str, int]:
        """Name -> width of those that the config sets."""
        named = {"base_dim": self.base_dim, "decoder_base_dim": self.decoder_base_dim}
        return {name: width for name, width in named.items() if width is not None}


@dataclass(frozen=True, kw_only=True)
class DiTStageConfig(StageConfig):
    """One part of a DiT's training.

    Attributes:
        half_size: whether to train on pictures scaled to half their size.
        latent_frames: how many of a clip's latent frames to train on, from its first on; 0 means
            all. The VAE is causal, so that 1 trains on single pictures.
        timesteps: the stage's own ``flow.timesteps``; None: those of the whole training.
        shift: the stage's own ``flow.shift``; None: that of the whole training. A larger latent
            needs more noise to hide as much of the picture (Esser et al. 2024, Sec. 5.3.2).
        objective: a name in :data:`OBJECTIVES`: ``flow`` (:class:`FlowMatching`), or ``guidance``
            (:class:`GuidanceDistillation`), which teaches a model that embeds a guidance scale what
            the scales mean.
        guidance: range of the scales that are learnt; read by the objective ``guidance`` only.
    """

    half_size: bool = False
    latent_frames: int = 0
    timesteps: str | None = None
    shift: float | None = None
    objective: str = "flow"
    guidance: tuple[float, float] = (1.0, 5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise unknown_name("objective", self.objective, OBJECTIVES)
        if self.latent_frames < 0:
            raise InputError(
                f"stage '{self.name}': latent_frames is {self.latent_frames}: it must be 0 or above"
            )
        if self.timesteps is not None:
            check_timesteps(self.timesteps)
        if self.shift is not None and self.shift <= 0:
            raise InputError(f"stage '{self.name}': shift is {self.shift}: it must be above 0")

    def flow_over(self, flow: FlowConfig) -> FlowConfig:
        """Replace the run's timesteps and shift by the stage's own, where it has any."""
        return replace(
            flow,
            timesteps=self.timesteps or flow.timesteps,
            shift=flow.shift if self.shift is None else self.shift,
        )


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The training of a nano backbone's DiT and text encoders.

    Attributes:
        backbone: ``nano-wan`` or ``nano-flux``, whose card has the architecture.
        vae: a finished run of the VAE's training, or a backbone's folder.
        corpus: see :class:`CorpusConfig`.
        flow: see :class:`FlowConfig`.
        stages: one after the other.
        prompts: what sample sheets show.
        sample_steps: sampling steps of the sheets.
        train: what the stages share; ``preview_every`` is the interval of validation too.
        threads: CPU threads; 0 leaves torch's own number.
        compile: compile the blocks of the DiT (torch.compile): about a minute for each size of
            batch, then faster steps. On a CPU it takes a C++ compiler.
    """

    backbone: str = "nano-wan"
    vae: str = "runs/nano-wan-vae"
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    stages: list[DiTStageConfig] = field(default_factory=lambda: [DiTStageConfig()])
    prompts: tuple[str, ...] = ("A red chair in a room.",)
    sample_steps: int = 20
    train: TrainConfig = field(default_factory=lambda: TrainConfig(optimizer="muon"))
    threads: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        check_stages(self.backbone, self.stages)


def vae_config(backbone: str, name: str | None, overrides: Sequence[str]) -> VAEConfig:
    """Load the config of a VAE's training.

    Args:
        backbone: decides the architecture, and the shipped config where ``name`` is None.
        name: a YAML file or the name of a shipped one.
        overrides: ``key=value`` strings.

    Raises:
        InputError: an unknown backbone, no such file, an unknown key, a wrong value.
    """
    return load_config(VAEConfig, *_file_and_overrides("vae", backbone, name, overrides))


def dit_config(backbone: str, name: str | None, overrides: Sequence[str]) -> DiTConfig:
    """Load the config of a DiT's training; see :func:`vae_config`."""
    return load_config(DiTConfig, *_file_and_overrides("dit", backbone, name, overrides))


def _file_and_overrides(
    part: str, backbone: str, name: str | None, overrides: Sequence[str]
) -> tuple[Path, list[str]]:
    if backbone not in BACKBONES:
        raise unknown_name("nano backbone", backbone, BACKBONES)
    return find_config(name or f"pretrain/{backbone}-{part}"), [*overrides, f"backbone={backbone}"]


def check_stages(backbone: str, stages: Sequence[StageConfig]) -> None:
    """Refuse an unknown backbone, no stages, or two of one name.

    Raises:
        InputError: says which.
    """
    if backbone not in BACKBONES:
        raise unknown_name("nano backbone", backbone, BACKBONES)
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise InputError(f"stages must be there and have different names, not {names}")
