"""Whether the depth of a scene is that which a head sees in its pictures, up to units."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

_SAMPLES = 20_000
"""Pixels of a view that are compared, at most: evenly spread."""

_DELTA = 1.25
"""Ratio of both depths, either way round, that delta1 counts as equal."""


@dataclass(eq=False)
class DepthAgreement:
    """Gathers pairs of depths of one head, view by view.

    A reconstruction has units of its own, so that its depth is compared after one scale for the
    whole scene, the median ratio; and after a scale and a shift of each view, which forgive a head
    more than a scene.
    """

    _pairs: dict[bool, list[tuple[Tensor, Tensor]]] = field(
        default_factory=lambda: {False: [], True: []}
    )

    def add(self, scene: Tensor, head: Tensor, valid: Tensor, *, held_out: bool) -> None:
        """Add a view: depth of the scene, depth by the head in metres, mask; all [H, W]."""
        known = valid & (scene > 0) & (head > 0) & head.isfinite()
        found, seen = scene[known].double().cpu(), head[known].double().cpu()
        step = max(1, -(-len(found) // _SAMPLES))
        if len(found):
            self._pairs[held_out].append((found[::step], seen[::step]))

    def scale(self) -> float | None:
        """Metres of the head in one unit of the scene; None: nothing could be compared."""
        pairs = self._pairs[False] or self._pairs[True]
        if not pairs:
            return None
        return float(torch.cat([seen / found for found, seen in pairs]).median())

    def figures(self, *, held_out: bool) -> dict[str, float] | None:
        """Agreement over all pixels of the views, the head's depth being the truth.

        Returns:
            ``AbsRel`` and ``delta1`` with one scale for the scene, ``AbsRel aligned`` and
            ``delta1 aligned`` with a scale and a shift for each view; None: no view.
        """
        pairs, scale = self._pairs[held_out], self.scale()
        if not pairs or scale is None:
            return None
        seen = torch.cat([seen for _, seen in pairs])
        scaled = torch.cat([found * scale for found, _ in pairs])
        aligned = torch.cat([_aligned(found, seen) for found, seen in pairs])
        one, each = _compare(scaled, seen), _compare(aligned, seen)
        return {
            "AbsRel": one[0],
            "delta1": one[1],
            "AbsRel aligned": each[0],
            "delta1 aligned": each[1],
        }


def _aligned(found: Tensor, seen: Tensor) -> Tensor:
    """Bring depths [N] to others by a scale and a shift, by least squares."""
    table = torch.stack([found, torch.ones_like(found)], 1)
    return table @ torch.linalg.lstsq(table, seen[:, None], driver="gelsd").solution[:, 0]


def _compare(found: Tensor, seen: Tensor) -> tuple[float, float]:
    relative = ((found - seen).abs() / seen).mean()
    # a shift may bring a depth below 0, where no ratio is good
    ratio = torch.maximum(found / seen, seen / found.clamp_min(1e-9))
    return float(relative), float((ratio < _DELTA).double().mean())
