"""The world of a sample: the frame of its first input camera, scaled by the card's policy."""

import torch
from torch import Tensor

from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.sampling import FrameChoice

# World units. A camera further from the first one than this was lost by its tracker: rays from
# there mean nothing to a network, and their products leave float32.
_MOST_DISTANCE = 1e5

_STARTS = 1000  # of the spans that are looked at in a long clip


def baseline(clip: PosedClip, choice: FrameChoice) -> float:
    """Distance between the first and the last input camera, in file units."""
    centres = clip.centres()
    return float((centres[choice.inputs[-1]] - centres[choice.inputs[0]]).norm())


def world_scale(clip: PosedClip, choice: FrameChoice, card: DatasetCard) -> float:
    """World units per file unit.

    Raises:
        ClipError: the scale is that of the input cameras' distance, and they hardly move.
    """
    if card.world_scale != "unit_baseline":
        return 1.0
    length = baseline(clip, choice)
    if length < card.min_baseline:
        raise _too_still(card)
    return 1.0 / length


def check_cameras(clip: PosedClip, choice: FrameChoice, card: DatasetCard) -> None:
    """Refuse frames whose cameras make no sample.

    Raises:
        ClipError: the first and the last input camera are closer than the card's least, or a camera
            is too far from them.
    """
    if baseline(clip, choice) < card.min_baseline:
        raise _too_still(card)
    centres = clip.centres()[[*choice.inputs, *choice.targets]]
    check_distances((centres - centres[0]) * world_scale(clip, choice, card))


def check_distances(offsets: Tensor) -> None:
    """Refuse cameras at offsets [n, 3] from the first, in world units.

    Raises:
        ClipError: one is too far.
    """
    distance = float(offsets.norm(dim=1).max())
    if distance > _MOST_DISTANCE:
        raise _too_far(distance)


def fit_spans(clip: PosedClip, card: DatasetCard) -> float:
    """Share of a clip's spans, of the lengths that the card allows, whose cameras make a sample.

    Raises:
        ClipError: there is none; as a sampling of it would say.
    """
    if clip.num_frames < card.min_span:
        raise ClipError(
            f"{clip.num_frames} frames are too few: a sample spans {card.min_span} or more"
        )
    centres = clip.centres()
    looked_at, reaches = 0, []
    for span in range(card.min_span, min(card.max_span, clip.num_frames) + 1):
        step = max(clip.num_frames // _STARTS, 1)
        offsets = centres.unfold(0, span, step)  # [S, 3, span]
        distances = (offsets - offsets[..., :1]).norm(dim=1)  # [S, span]
        lengths = distances[:, -1]
        moves = lengths >= card.min_baseline
        scale = 1 / lengths[moves] if card.world_scale == "unit_baseline" else 1.0
        reaches.append(distances[moves].amax(1) * scale)
        looked_at += len(lengths)
    reach = torch.cat(reaches)  # of those that move
    if not len(reach):
        raise _too_still(card)
    near = reach <= _MOST_DISTANCE
    if not near.any():
        raise _too_far(float(reach.min()))
    return int(near.sum()) / looked_at


def _too_still(card: DatasetCard) -> ClipError:
    return ClipError(
        "the cameras hardly move: first and last input camera are closer than "
        f"{card.min_baseline:g} file units"
    )


def _too_far(distance: float) -> ClipError:
    return ClipError(
        f"a camera lies {distance:.3g} world units from the first one, more than {_MOST_DISTANCE:g}"
    )
