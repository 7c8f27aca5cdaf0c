"""Which frames a video backbone sees, and which are held out to be predicted.

The input frames of one sampling lie evenly over a span of the clip; the held-out targets lie
strictly between them and are never input frames.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.skipped import Skipped


class FrameChoice(NamedTuple):
    """Frame indices of one sampling, both in increasing order and without common members."""

    inputs: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FrameChoices:
    """Fixed frames for an evaluation.

    Attributes:
        choices: clip key -> frames.
        skipped: clips for which there are none, with the reason.
        note: what a results table must say about them; empty when there is nothing to say.
        counts: further things to report, by name.
    """

    choices: dict[str, FrameChoice]
    skipped: list[Skipped]
    note: str = ""
    counts: dict[str, int] = field(default_factory=dict)


def sample_frames(
    num_frames: int,
    *,
    frames: int,
    targets: int,
    min_span: int,
    max_span: int,
    rng: random.Random,
) -> FrameChoice:
    """Choose a span by chance, inputs evenly over it, and targets by chance between them.

    Args:
        num_frames: length of the clip.
        frames: number of input frames F, at least 2.
        targets: number of held-out frames K.
        min_span, max_span: frames from the first to the last input, both included. Raised to F + K
            so that K frames are free between the inputs; cut to the clip's length.
        rng: the only source of randomness.

    Raises:
        ClipError: the clip is too short.
        ValueError: fewer than 2 inputs, or no target.
    """
    shortest, longest = _span_limits(num_frames, frames, targets, min_span, max_span)
    span = rng.randint(shortest, longest)
    start = rng.randint(0, num_frames - span)
    inputs = spread(start, span, frames)
    free = _others(range(start, start + span), inputs)
    return FrameChoice(inputs, tuple(sorted(rng.sample(free, targets))))


def even_frames(
    num_frames: int, *, frames: int, targets: int, min_span: int, max_span: int
) -> FrameChoice:
    """Choose for evaluation, without chance: longest span, in the middle, targets spread evenly.

    Arguments and errors as :func:`sample_frames`.
    """
    _, span = _span_limits(num_frames, frames, targets, min_span, max_span)
    start = (num_frames - span) // 2
    inputs = spread(start, span, frames)
    free = _others(range(start, start + span), inputs)
    held_out = tuple(free[(2 * i + 1) * len(free) // (2 * targets)] for i in range(targets))
    return FrameChoice(inputs, held_out)


def even_choices(
    clips: Sequence[PosedClip], card: DatasetCard, *, frames: int, targets: int
) -> FrameChoices:
    """Apply :func:`even_frames` to every clip, with the card's spans."""
    choices: dict[str, FrameChoice] = {}
    skipped: list[Skipped] = []
    for clip in clips:
        try:
            choices[clip.key] = even_frames(
                clip.num_frames,
                frames=frames,
                targets=targets,
                min_span=card.min_span,
                max_span=card.max_span,
            )
        except ClipError as error:
            skipped.append(Skipped(clip.key, str(error)))
    return FrameChoices(choices=choices, skipped=skipped)


def _span_limits(
    num_frames: int, frames: int, targets: int, min_span: int, max_span: int
) -> tuple[int, int]:
    if frames < 2 or targets < 1:
        raise ValueError(f"needs at least 2 input frames and 1 target, not {frames} and {targets}")
    shortest = max(min_span, frames + targets)
    if num_frames < shortest:
        raise ClipError(
            f"{num_frames} frames are too few for {frames} input frames with {targets} held-out "
            f"ones between them over at least {shortest}"
        )
    return shortest, min(max(max_span, shortest), num_frames)


def spread(start: int, span: int, frames: int) -> tuple[int, ...]:
    """Spread frames evenly over ``start .. start + span - 1``, both ends included."""
    steps = frames - 1  # the division below rounds to nearest
    return tuple(start + (i * (span - 1) + steps // 2) // steps for i in range(frames))


def _others(frames: range, taken: Sequence[int]) -> list[int]:
    excluded = set(taken)
    return [frame for frame in frames if frame not in excluded]
