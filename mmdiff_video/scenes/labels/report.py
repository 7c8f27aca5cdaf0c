"""What was made of a scene's labels, and how well they agree with the heads: ``lift.json``."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdiff_video.datasets.names import shown
from mmdiff_video.files import write_json
from mmdiff_video.scenes.folder import LIFT_REPORT
from mmdiff_video.skipped import Skipped, listed
from mmdiff_video.version import __version__

Figures = Mapping[str, float | None]
"""Name -> figure; None: not defined, as the IoU of a class that nobody saw."""

_FEW = 4
"""Classes of a scene that a terminal is told of."""

_OF_A_CLASS = "IoU "
"""Begins the names of figures that are in the file alone."""


@dataclass(frozen=True, kw_only=True)
class HeadReport:
    """What became of one head.

    Attributes:
        run: of the head, in words.
        fused: whether Gaussians have its labels; else it was compared alone.
        protocol: how the figures are computed.
        input: agreement with the head's own predictions over the pictures that were fused.
        held_out: the same over those that were neither fitted nor fused; None: there are none.
        shares: class -> share of the pixels of all rendered labels; None: it has no classes.
        metres_per_unit: of a depth head: the scale between it and the scene.
    """

    run: str
    fused: bool
    protocol: str
    input: Figures | None
    held_out: Figures | None
    shares: Mapping[str, float] | None = None
    metres_per_unit: float | None = None


@dataclass(frozen=True, kw_only=True)
class LiftReport:
    """What ``mmdiff-video lift`` did.

    Attributes:
        scene: its folder.
        heads: by name of their task.
        gaussians: how many the scene has.
        unseen: how many of them no view sees: they have no labels.
        views: pictures that were fused.
        held_out: pictures that were only compared.
        longest_side: pixels of the labels' longer side, at most.
        skipped: picture -> why it was not used.
        notice: what must be said of a backbone; empty for nothing.
        seconds: by stage.
    """

    scene: str
    heads: Mapping[str, HeadReport]
    gaussians: int
    unseen: int
    views: int
    held_out: int
    longest_side: int
    skipped: Mapping[str, str]
    notice: str
    seconds: Mapping[str, float]

    def write(self, folder: Path) -> None:
        """Write it into the folder of the scene."""
        write_json(folder / LIFT_REPORT, {"version": __version__, **asdict(self)})

    def __str__(self) -> str:
        lines = [
            f"{', '.join(self.heads)} on {self.gaussians:,} Gaussians of '{self.scene}', from"
            f" {self.views} pictures, {sum(self.seconds.values()):.0f} s"
        ]
        if self.unseen:
            lines.append(f"{self.unseen} Gaussians are seen by no picture and have no label")
        for name, head in self.heads.items():
            verb = "labels of" if head.fused else "depth of the scene against"
            lines.append(f"{verb} {name} ({head.run}), agreement with the head's own predictions:")
            for place, figures in (("fused", head.input), ("held-out", head.held_out)):
                if figures is not None:
                    lines.append(f"  {place} pictures: {_words(figures)}")
            if head.metres_per_unit is not None:
                lines.append(f"  one unit of the scene is {head.metres_per_unit:.3g} m to the head")
            if head.shares:
                most = sorted(head.shares.items(), key=lambda entry: -entry[1])[:_FEW]
                lines.append("  " + ", ".join(f"{share:.0%} {name}" for name, share in most))
        skipped = [Skipped(shown(name), reason) for name, reason in self.skipped.items()]
        lines += listed(skipped, 8)
        return "\n".join([*lines, self.notice] if self.notice else lines)


def as_figures(found: Mapping[str, float]) -> dict[str, float | None]:
    """Put None where a figure is not defined: JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _words(figures: Figures) -> str:
    return ", ".join(
        f"{name} {value:.4g}"
        for name, value in figures.items()
        if value is not None and not name.startswith(_OF_A_CLASS)
    )
