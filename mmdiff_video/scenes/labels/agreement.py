"""How far labels that are rendered from a scene agree with what heads see in its pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdiff_video.scenes.labels.depth_agreement import DepthAgreement
from mmdiff_video.scenes.labels.report import Figures, HeadReport, as_figures
from mmdiff_video.scenes.labels.seen import Seen
from mmdiff_video.scenes.labels.tasks import LIFTED
from mmdiff_video.tasks import Scores

_PROTOCOL = (
    "rendered labels are scored as predictions, the head's own prediction for the picture is taken"
    " for the truth, where labelled Gaussians hide more than half of the background; "
)
_DEPTH_PROTOCOL = (
    "AbsRel and share of the pixels within a factor of 1.25 (delta1) of the scene's depth, the"
    " head's own prediction being taken for the truth: after one scale for the scene, the median"
    " ratio over the pictures that were fused, and after a scale and a shift of each picture"
    " (aligned)"
)


class Agreement:
    """Gathers figures picture by picture.

    Args:
        found: what the heads saw.
    """

    def __init__(self, found: Sequence[Seen]):
        self.found = found
        self._scores: dict[str, dict[bool, Scores]] = {}
        self._counts: dict[str, Tensor] = {}
        self._depths: dict[str, DepthAgreement] = {}
        for seen in found:
            name = seen.task.name
            if name in LIFTED:
                self._scores[name] = {side: seen.task.scores() for side in (False, True)}
            else:
                self._depths[name] = DepthAgreement()
            if seen.classes is not None:
                self._counts[name] = torch.zeros(len(seen.classes.names), dtype=torch.int64)
        self._filled: set[tuple[str, bool]] = set()

    def add(
        self, name: str, prediction: Tensor, own: Tensor, valid: Tensor, *, held_out: bool
    ) -> None:
        """Add a picture of a fused head.

        Args:
            name: of the task.
            prediction: [C, H, W] of the rendered labels.
            own: [C, H, W], what the head predicts for the picture.
            valid: bool [H, W], where there are labels.
            held_out: whether the picture was left out of the fusing.
        """
        if not valid.any():
            return
        target = torch.where(valid, LIFTED[name].target(own), 0)
        self._scores[name][held_out].add(torch.where(valid, prediction, 0), target, valid)
        self._filled.add((name, held_out))
        if name in self._counts:
            counts = self._counts[name]
            counts += prediction[0][valid].bincount(minlength=len(counts))

    def add_depth(
        self, name: str, scene: Tensor, own: Tensor, valid: Tensor, *, held_out: bool
    ) -> None:
        """Add a picture of a depth head; all maps are [H, W]."""
        self._depths[name].add(scene, own, valid, held_out=held_out)

    def reports(self) -> dict[str, HeadReport]:
        """Of every head, by the name of its task."""
        return {seen.task.name: self._report(seen) for seen in self.found}

    def _report(self, seen: Seen) -> HeadReport:
        name = seen.task.name
        if name in self._depths:
            depths = self._depths[name]
            return HeadReport(
                run=seen.run,
                fused=False,
                protocol=_DEPTH_PROTOCOL,
                input=depths.figures(held_out=False),
                held_out=depths.figures(held_out=True),
                metres_per_unit=depths.scale(),
            )
        return HeadReport(
            run=seen.run,
            fused=True,
            protocol=_PROTOCOL + seen.task.protocol(),
            input=self._figures(name, held_out=False),
            held_out=self._figures(name, held_out=True),
            shares=self._shares(seen),
        )

    def _figures(self, name: str, *, held_out: bool) -> Figures | None:
        if (name, held_out) not in self._filled:
            return None
        return as_figures(self._scores[name][held_out].compute())

    def _shares(self, seen: Seen) -> dict[str, float] | None:
        counts = self._counts.get(seen.task.name)
        if counts is None or seen.classes is None:
            return None
        shares = (counts / counts.sum().clamp_min(1)).tolist()
        return dict(zip(seen.classes.names, shares, strict=True))
