"""``mmdiff-video render``: fly a camera through a clip's Gaussians."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import torch

from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.views import NVSBatch, collate, make_sample
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.flights import FRAMES, check_numbers, check_size, fly, focus_depth
from mmdiff_video.nvs.evaluate import frame_choices
from mmdiff_video.nvs.objective import NEAR_PLANE
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.outputs import results_file
from mmdiff_video.pictures import save_video
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from recon.gaussians import Gaussians
from recon.io.ply import save_ply
from recon.trajectories import TRAJECTORIES

logger = logging.getLogger(__name__)


def render_scene(
    run: Path,
    *,
    out: Path,
    scene: str | None = None,
    trajectory: str | None = None,
    ply: Path | None = None,
    depth: bool = False,
    split: str = "test",
    data_root: Path | None = None,
    num_frames: int | None = None,
    fps: int = 20,
    scale: int | None = None,
) -> None:
    """Reconstruct one clip and write a video, and its Gaussians if asked for.

    Args:
        run: a run folder.
        out: the video, .mp4 or another container that holds H.264.
        scene: key of a clip; None: the first of the split.
        trajectory: a key of :data:`recon.trajectories.TRAJECTORIES`; None: ``interpolate``.
        ply: also save the Gaussians here, in the PLY layout of the original 3DGS code.
        depth: put the depth beside the picture.
        split: where to look for the clip.
        data_root: where the data lies now, if it moved.
        num_frames, fps: of the video; None: 60 frames.
        scale: render at this many times the size of the input frames; None: the least that makes
            the video 384 pixels wide or wider.

    Raises:
        InputError: an unknown trajectory or scene (lists what there is), no run, no data, a number
            below 1, one file for both results, a run that gives Gaussians of no finite numbers, or
            another process that writes the file.
    """
    trajectory = trajectory or "interpolate"
    if trajectory not in TRAJECTORIES:
        raise unknown_name("trajectory", trajectory, TRAJECTORIES)
    check_numbers(frames=num_frames, fps=fps, scale=scale)
    num_frames = num_frames or FRAMES
    if ply is not None and os.path.realpath(ply) == os.path.realpath(out):
        raise InputError(f"the video and the Gaussians cannot both be written to '{out}'")
    made = reconstruct_clip(run, scene, split, data_root)
    setup, clip, gaussians = made.reconstructor.setup, made.clip, made.gaussians
    scale = scale or -(-384 // setup.width)
    check_size(setup.width * scale * (1 + depth), setup.height * scale)
    if ply is not None:
        with results_file(ply, "render"):
            save_ply(ply, gaussians)
        logger.info("%s: %d Gaussians%s", ply, gaussians.num, _aside(setup.notice))
    viewmats, Ks = made.batch.input_viewmats[0], made.batch.input_Ks[0]
    middle = len(viewmats) // 2
    size = setup.height, setup.width
    focus = focus_depth(gaussians, viewmats[middle], Ks[middle], size, near_plane=NEAR_PLANE)
    path = TRAJECTORIES[trajectory](viewmats, num_frames, depth=focus or 1.0)
    K = Ks[0] * torch.tensor([[scale], [scale], [1]], device=Ks.device)
    frames = fly(
        gaussians,
        path,
        K.expand(len(path), 3, 3),
        (setup.height * scale, setup.width * scale),
        near_plane=NEAR_PLANE,
        depth=depth,
        notice=setup.notice,
    )
    with results_file(out, "render"):
        save_video(frames, out, fps)
    logger.info("%s: %d frames of %s%s", out, num_frames, clip.key, _aside(setup.notice))


class ReconstructedClip(NamedTuple):
    """One clip as a run sees it.

    Attributes:
        reconstructor: the run, opened.
        clip: of its data.
        batch: of the clip alone: its input frames and cameras.
        gaussians: without batch dimension, in the world of the batch.
    """

    reconstructor: Reconstructor
    clip: PosedClip
    batch: NVSBatch
    gaussians: Gaussians


def reconstruct_clip(
    run: Path, scene: str | None = None, split: str = "test", data_root: Path | None = None
) -> ReconstructedClip:
    """Open a run and turn one clip into Gaussians; arguments as of :func:`render_scene`.

    Raises:
        InputError: an unknown scene (lists what there is), no run, no data, or a run that gives
            Gaussians of no finite numbers.
    """
    reconstructor = Reconstructor.from_run(run, data_root)
    setup = reconstructor.setup
    clip = _find_clip(reconstructor, scene, split)
    choices = frame_choices(setup, [clip])
    if clip.key not in choices.choices:
        raise InputError(f"clip '{clip.key}' cannot be rendered: {choices.skipped[0].reason}")
    try:
        sample = make_sample(
            clip, choices.choices[clip.key], setup.card, height=setup.height, width=setup.width
        )
    except ClipError as error:
        raise InputError(f"clip '{clip.key}' cannot be read: {error}") from None
    batch = collate([sample]).to(setup.backbone.device)
    gaussians = reconstructor.reconstruct(batch)[0]
    _check_finite(gaussians)
    return ReconstructedClip(reconstructor, clip, batch, gaussians)


def _find_clip(reconstructor: Reconstructor, scene: str | None, split: str) -> PosedClip:
    """Find a clip by its key, among the card's choice too; None: the first of the run's choice."""
    setup, data = reconstructor.setup, reconstructor.setup.config.data
    limit = data.max_clips if split == "train" else data.max_eval_clips
    usual = setup.card.splits.get(split)
    if scene is not None and limit is not None and (usual is None or usual > limit):
        limit = None
    loaded = load_split(
        setup.card,
        find_or_make_root(setup.card, data.root),
        split,
        max_clips=limit,
        split_seed=data.split_seed,
    )
    clips = {clip.key: clip for clip in loaded.clips}
    if scene is None:
        return next(iter(clips.values()))
    if reason := dict(loaded.skipped).get(scene):
        raise InputError(f"clip '{scene}' cannot be rendered: {reason}")
    if scene not in clips:
        raise unknown_name(f"scene of split '{split}'", scene, clips)
    return clips[scene]


def _check_finite(gaussians: Gaussians) -> None:
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)
    if not all(part.isfinite().all() for part in (*parts, gaussians.colors)):
        raise InputError(
            "the run gives Gaussians of numbers that are not finite: it diverged, or its weights"
            " are damaged; train anew, at a lower rate"
        )


def _aside(notice: str) -> str:
    return f" ({notice})" if notice else ""
