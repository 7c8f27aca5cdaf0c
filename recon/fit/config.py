"""Settings of a fit."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class FitRates:
    """Learning rates of Adam; lengths are in units of the median depth of the scene.

    Attributes:
        means: of the centres, at the start; they fall to a hundredth.
        scales: of the logarithms of the scales.
        quats: of the rotations.
        opacities: of the logits.
        colors: of the constant harmonics.
        harmonics: of the others.
        poses: of rotations (radians) and translations, where poses are refined.
        exposures: of gains and offsets, where exposures are fitted.
    """

    means: float = 2e-3
    scales: float = 8e-3
    quats: float = 2e-3
    opacities: float = 5e-2
    colors: float = 2e-2
    harmonics: float = 1e-3
    poses: float = 1e-3
    exposures: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a scene is fitted: 3DGS-MCMC (Kheradmand et al. 2024) with Adam.

    Attributes:
        steps: of the optimiser.
        max_gaussians: how many Gaussians there are, from the first step to the last.
        sh_degree: of the spherical harmonics, 0 to 3; each degree begins at its share of the fit.
        views_per_step: pictures in a step.
        ssim: weight of 1 - SSIM beside the absolute error.
        opacity_price, scale_price: weights of the mean opacity and scale: what is not needed goes.
        depth_price, normal_price: weights of the priors (:class:`recon.fit.priors.Priors`).
        relocate_every: steps between relocations of Gaussians that have become transparent.
        dead_opacity: below it a Gaussian is relocated.
        noise: strength of the noise on centres (its ``noise_lr``).
        coarse: share of the fit at half the resolution, the first half of it at a quarter.
        refine_poses: move the cameras of the training views, too.
        exposures: fit a gain and an offset of each channel for each picture.
        seed: of all random choices.
        engine: of ``recon.rasterize``.
        rates: learning rates.
    """

    steps: int = 1000
    max_gaussians: int = 20_000
    sh_degree: int = 1
    views_per_step: int = 1
    ssim: float = 0.2
    opacity_price: float = 0.01
    scale_price: float = 0.01
    depth_price: float = 0.0
    normal_price: float = 0.0
    relocate_every: int = 100
    dead_opacity: float = 0.005
    noise: float = 0.0
    coarse: float = 0.0
    refine_poses: bool = False
    exposures: bool = False
    seed: int = 0
    engine: str = "auto"
    rates: FitRates = field(default_factory=FitRates)

    def __post_init__(self) -> None:
        if not 0 <= self.sh_degree <= 3:
            raise ValueError(f"sh_degree is {self.sh_degree}: it must be 0 to 3")
        for name in ("steps", "max_gaussians", "views_per_step", "relocate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        for name in ("ssim", "coarse"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be from 0 to 1")
