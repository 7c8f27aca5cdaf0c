"""pixelSplat's evaluation index, used with a video's worth of input frames.

The index is JSON: scene key -> ``{"context": [a, b], "target": [...]}``, or null for scenes that
were left out. Its protocol gives a method the two context frames and nothing else. A video backbone
needs F frames, so F - 2 more are shown to it, none of them a target: an easier task, and every
table made this way must carry the note.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.sampling import FrameChoice, FrameChoices, spread
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json
from mmdiff_video.skipped import Skipped, reasons


class SceneViews(NamedTuple):
    """One scene of the index: frame numbers in increasing order, the contexts at least two."""

    context: tuple[int, ...]
    target: tuple[int, ...]


def load_eval_index(path: Path) -> dict[str, SceneViews | None]:
    """Read the index; None marks the scenes that it leaves out.

    Raises:
        InputError: unreadable, or not of the form above.
    """
    try:
        content = read_json(Path(path))
    except (OSError, InputError) as error:
        raise InputError(f"evaluation index '{path}' cannot be read: {error}") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"evaluation index '{path}' must be a JSON object from scene to views")
    return {key: _scene(entry, key, path) for key, entry in content.items()}


def _scene(entry: object, key: str, path: Path) -> SceneViews | None:
    if entry is None:
        return None
    lists = [entry.get(name) for name in ("context", "target")] if isinstance(entry, dict) else []
    views = [
        tuple(sorted(set(frames)))
        for frames in lists
        if isinstance(frames, list) and frames and all(type(i) is int and i >= 0 for i in frames)
    ]
    if len(views) != 2 or len(views[0]) < 2:
        raise InputError(
            f"evaluation index '{path}', scene {key}: expected null or 'context' (two or more "
            "frame numbers) and 'target' (one or more)"
        )
    return SceneViews(*views)


def index_choices(
    clips: Sequence[PosedClip], index: Mapping[str, SceneViews | None], *, frames: int
) -> FrameChoices:
    """Choose the frames of every clip by the index.

    Inputs are the contexts plus, evenly over the span between them, the nearest frames that are not
    targets, up to ``frames``. Targets that are contexts are dropped and counted.

    Args:
        clips: from a reader; their keys are those of the index's scenes.
        index: from :func:`load_eval_index`.
        frames: input frames of each clip.

    Raises:
        InputError: no clip is in the index.
    """
    choices: dict[str, FrameChoice] = {}
    skipped: list[Skipped] = []
    dropped = 0
    for clip in clips:
        views = index.get(clip.key)
        if views is None:
            reason = "null" if clip.key in index else "not a scene"
            skipped.append(Skipped(clip.key, f"{reason} in the evaluation index"))
            continue
        try:
            choices[clip.key] = _choose(views, clip.num_frames, frames)
            dropped += len(set(views.target) & set(views.context))
        except ClipError as error:
            skipped.append(Skipped(clip.key, str(error)))
    if not choices:
        raise InputError(f"the evaluation index fits no clip{reasons(skipped)}")
    keys = {clip.key for clip in clips}
    counts = {
        "targets_that_are_contexts": dropped,
        "null_scenes": sum(views is None for views in index.values()),
        "scenes_without_clip": sum(v is not None and key not in keys for key, v in index.items()),
    }
    note = (
        f"pixelSplat's evaluation index with {frames} input frames a scene instead of its contexts "
        "alone: not the two-view protocol, not comparable with figures published for it"
    )
    return FrameChoices(choices=choices, skipped=skipped, note=note, counts=counts)


def _choose(views: SceneViews, num_frames: int, frames: int) -> FrameChoice:
    targets = tuple(frame for frame in views.target if frame not in views.context)
    if not targets:
        raise ClipError("all its targets in the evaluation index are contexts")
    if max(*targets, *views.context) >= num_frames:
        raise ClipError(
            f"{num_frames} frames, the evaluation index asks for frame "
            f"{max(*targets, *views.context)}"
        )
    if len(views.context) > frames:
        raise ClipError(f"{len(views.context)} contexts do not fit into {frames} input frames")
    inputs = set(views.context)
    first, last = views.context[0], views.context[-1]
    free = set(range(num_frames)) - set(targets) - inputs
    if len(free) + len(inputs) < frames:
        raise ClipError(f"too few frames beside the targets for {frames} input frames")
    # Evenly spaced slots, as in training: contexts take theirs, the others the nearest free frame.
    slots = list(spread(first, last - first + 1, frames))
    for context in views.context:
        slots.remove(min(slots, key=lambda slot: abs(slot - context)))
    for slot in slots:
        best = min(free, key=lambda f: (not first < f < last, abs(f - slot), f))
        inputs.add(best)
        free.remove(best)
    return FrameChoice(tuple(sorted(inputs)), targets)
