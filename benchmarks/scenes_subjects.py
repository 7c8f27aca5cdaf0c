"""Scenes for benchmarks/scenes.py: held-out rooms, and videos whose cameras are found."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from scenes_fits import Subject

from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.scenes.capture.make import make_capture
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.fitting.views import load_views
from recon.fit import FitViews

_FRAMES, _WIDTH, _HEIGHT = 40, 256, 192
_SEED = 4242
"""Of the rooms: another than that of any training."""


def room_subjects(folder: Path, count: int) -> Iterator[Subject]:
    """Draw rooms, once, and open those of the test split."""
    root = make_rooms(
        folder,
        scenes=5 * count,
        seed=_SEED,
        frames=_FRAMES,
        width=_WIDTH,
        height=_HEIGHT,
    )
    loaded = load_split(load_card("rooms"), root, "test", max_clips=count)
    for clip in loaded.clips:
        frames = torch.from_numpy(clip.read(range(clip.num_frames)))
        Ks = torch.eye(3).repeat(clip.num_frames, 1, 1)
        fx, fy, cx, cy = clip.intrinsics.float().unbind(1)
        Ks[:, 0, 0], Ks[:, 0, 2] = fx * clip.width, cx * clip.width
        Ks[:, 1, 1], Ks[:, 1, 2] = fy * clip.height, cy * clip.height
        views = FitViews(frames, clip.viewmats.float(), Ks)
        yield Subject(f"room-{clip.key}", "rooms", views)


def video_subjects(folder: Path, videos: Sequence[Path]) -> Iterator[Subject]:
    """Find the cameras of videos, once, and open them."""
    for video in videos:
        made = make_capture(video, folder / video.stem, CaptureSettings())
        yield Subject(video.stem, "videos", load_views(made.capture, 320, 0).all)
