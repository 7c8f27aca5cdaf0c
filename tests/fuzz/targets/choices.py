"""Which frames are inputs and which are held out, for clips of any length."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fuzz.harness import Case, require, require_sentence, target

from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.eval_index import SceneViews, index_choices
from mmdiff_video.datasets.clips.sampling import (
    FrameChoice,
    FrameChoices,
    even_choices,
    sample_frames,
)
from mmdiff_video.errors import InputError


class _Black:
    """Frames that nobody looks at."""

    def read(self, indices: Any) -> np.ndarray:
        return np.zeros((len(indices), 4, 4, 3), np.uint8)


def _clip(key: str, count: int) -> PosedClip:
    return PosedClip(
        key=key,
        intrinsics=torch.ones(count, 4, dtype=torch.float64),
        viewmats=torch.eye(4, dtype=torch.float64).repeat(count, 1, 1),
        height=4,
        width=4,
        frames=_Black(),
    )


def _require_choice(choice: FrameChoice, length: int, frames: int) -> None:
    inputs, targets = choice
    require(len(inputs) == frames, f"{len(inputs)} inputs instead of {frames}")
    require(len(targets) >= 1, "no target")
    for each in (inputs, targets):
        require(list(each) == sorted(set(each)), f"frames {each}")
        require(each[0] >= 0, f"frames {each} of {length}")
        require(each[-1] < length, f"frames {each} of {length}")
    require(not set(inputs) & set(targets), f"{set(inputs) & set(targets)} are shown and held out")


def _require_choices(choices: FrameChoices, clips: list[PosedClip], frames: int) -> None:
    skipped = [entry.key for entry in choices.skipped]
    keys = sorted([*choices.choices, *skipped])
    require(keys == sorted(clip.key for clip in clips), f"of {len(clips)} clips: {keys}")
    for entry in choices.skipped:
        require_sentence(entry.reason)
    lengths = {clip.key: clip.num_frames for clip in clips}
    for key, choice in choices.choices.items():
        _require_choice(choice, lengths[key], frames)


@target(cases=40)
def frame_choices(case: Case) -> None:
    """Every clip gets frames, or a reason why not."""
    rng = case.rng
    clips = [_clip(f"clip{i}", rng.choice((1, 2, 3, 5, 9, 20, 60))) for i in range(4)]
    frames, targets = rng.choice((2, 3, 5, 9, 17)), rng.choice((1, 2, 3, 8))
    shortest = rng.choice((2, 5, 17, 33))
    card = replace(
        load_card("re10k"), min_span=shortest, max_span=shortest + rng.choice((0, 3, 90))
    )
    lengths = [clip.num_frames for clip in clips]
    case.note(lengths, f"{frames} frames, {targets} targets, spans {card.min_span, card.max_span}")
    _require_choices(even_choices(clips, card, frames=frames, targets=targets), clips, frames)
    spans = {"min_span": card.min_span, "max_span": card.max_span}
    for clip in clips:
        with case.refusable(ClipError):
            choice = sample_frames(
                clip.num_frames, frames=frames, targets=targets, rng=rng, **spans
            )
            _require_choice(choice, clip.num_frames, frames)
            require(len(choice.targets) == targets, f"{len(choice.targets)} targets")
    case.refusal = None


@target(cases=80)
def index_frames(case: Case) -> None:
    """Scenes of an evaluation index that fit clips, or do not."""
    rng = case.rng
    clips = [_clip(f"clip{i}", rng.choice((2, 5, 9, 20, 60))) for i in range(4)]
    index: dict[str, SceneViews | None] = {"elsewhere": SceneViews((0, 1), (2,))}
    for clip in clips:
        if rng.random() < 0.9:
            most = clip.num_frames + rng.choice((0, 0, 0, 2))
            context = tuple(sorted(rng.sample(range(most), min(rng.choice((2, 2, 3)), most))))
            wanted = tuple(sorted(rng.sample(range(most), rng.randint(1, min(4, most)))))
            index[clip.key] = None if rng.random() < 0.1 else SceneViews(context, wanted)
    frames = rng.choice((2, 3, 5, 9))
    case.note([clip.num_frames for clip in clips], index, f"{frames} frames")
    with case.refusable(InputError, naming="evaluation index"):
        choices = index_choices(clips, index, frames=frames)
        _require_choices(choices, clips, frames)
        for key, choice in choices.choices.items():
            views = index[key]
            assert views is not None
            require(set(views.context) <= set(choice.inputs), "a context is not shown")
            require(set(choice.targets) == set(views.target) - set(views.context), "targets")
