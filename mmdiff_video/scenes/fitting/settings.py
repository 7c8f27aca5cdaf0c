"""Settings of ``mmdiff-video reconstruct``."""

from dataclasses import dataclass

from mmdiff_video.errors import InputError

POINTS, CHANCE = "points", "chance"


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """How a capture becomes a scene.

    Attributes:
        init: what the fit starts from: ``points`` of the capture, ``chance``, or the folder of a
            run of ``train-3dgs``.
        steps: of the optimiser, where ``seconds`` is None.
        seconds: end the fit after so much time, however many steps that makes.
        max_gaussians: how many there are; None: one for each four pixels of a picture, between
            20,000 and 200,000.
        sh_degree: of the spherical harmonics, 0 to 3.
        picture_side: pixels of the longest side to which pictures are shrunk for the fit.
        hold_out: every so-manieth picture is kept from the fit and scored; 0: none, and no scores.
        refine_poses: move the cameras in the fit.
        exposures: fit a gain and an offset for each picture.
        engine: of ``recon.rasterize``.
        seed: of all random choices.
        flight_frames: frames of the flight; 0: no flight.

    Raises:
        InputError: a number out of its range.
    """

    init: str = POINTS
    steps: int = 2000
    seconds: float | None = None
    max_gaussians: int | None = None
    sh_degree: int = 3
    picture_side: int = 640
    hold_out: int = 8
    refine_poses: bool = False
    exposures: bool = False
    engine: str = "auto"
    seed: int = 0
    flight_frames: int = 120

    def __post_init__(self) -> None:
        least = {"steps": 1, "picture_side": 32, "flight_frames": 0, "hold_out": 0, "sh_degree": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(
                    f"{_flag(name)} must be {value} or more, not {getattr(self, name)}"
                )
        if self.sh_degree > 3:
            raise InputError(f"--sh-degree must be 0 to 3, not {self.sh_degree}")
        if self.hold_out == 1:
            raise InputError("--hold-out 1 would keep every picture from the fit: give 2 or more")
        if self.max_gaussians is not None and self.max_gaussians < 1:
            raise InputError(f"--max-gaussians must be 1 or more, not {self.max_gaussians}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise InputError(f"--time must be above 0 seconds, not {self.seconds}")

    def gaussians_for(self, width: int, height: int) -> int:
        """How many Gaussians there are for pictures of a size."""
        return self.max_gaussians or min(max(width * height // 4, 20_000), 200_000)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
