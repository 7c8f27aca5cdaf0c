"""From posed clips to samples: input frames, held-out views and cameras in one scaled world.

The world of a sample is the frame of its first input camera, scaled by the card's policy. Whatever
goes wrong with a clip at run time comes back as :class:`Skipped`, so that the training loop can
count it; nothing is replaced by another clip behind its back.
"""

import dataclasses
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmdiff_video.datasets.clips.card import DatasetCard
from mmdiff_video.datasets.clips.clip import ClipError, PosedClip
from mmdiff_video.datasets.clips.sampling import FrameChoice, FrameChoices, sample_frames
from mmdiff_video.datasets.clips.world import check_cameras, check_distances, world_scale
from mmdiff_video.errors import InputError
from mmdiff_video.skipped import Skipped, reasons
from recon.cameras import (
    Ks_from_normalized,
    relative_to_first,
    resize_crop_geometry,
    resize_crop_intrinsics,
)

# Spans that are tried before a clip counts as one that allows none.
_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class NVSSample:
    """One clip with F input frames and K held-out views of H x W pixels.

    Attributes:
        key: names the clip and its input frames; what noise and caches are keyed by. Fit for a file
            name.
        clip_key: names the clip.
        video: float32 [3, F, H, W] in [0, 1].
        input_viewmats: float32 [F, 4, 4] world-to-camera; the first is the identity.
        input_Ks: float32 [F, 3, 3] in pixels of H x W, principal point from the top-left corner.
        target_images: float32 [K, 3, H, W] in [0, 1].
        target_viewmats: float32 [K, 4, 4].
        target_Ks: float32 [K, 3, 3].
        input_indices: int64 [F], frame numbers in the clip.
        target_indices: int64 [K].
        world_scale: float32 scalar; world units per file unit.
        caption: of the clip; None: it has none.
    """

    key: str
    clip_key: str
    video: Tensor
    input_viewmats: Tensor
    input_Ks: Tensor
    target_images: Tensor
    target_viewmats: Tensor
    target_Ks: Tensor
    input_indices: Tensor
    target_indices: Tensor
    world_scale: Tensor
    caption: str | None = None


@dataclass(frozen=True, kw_only=True)
class NVSBatch:
    """Samples stacked along a new first dimension B; fields as in :class:`NVSSample`.

    Attributes:
        keys: B sample keys.
        captions: B captions, None for a clip without.
    """

    keys: list[str]
    captions: list[str | None]
    video: Tensor
    input_viewmats: Tensor
    input_Ks: Tensor
    target_images: Tensor
    target_viewmats: Tensor
    target_Ks: Tensor
    input_indices: Tensor
    target_indices: Tensor
    world_scale: Tensor

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> "NVSBatch":
        """Move every tensor."""
        tensors = {
            f.name: value.to(device)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **tensors)


def collate(samples: Sequence[NVSSample]) -> NVSBatch:
    """Stack one or more samples into a batch.

    All samples must have the same sizes: evaluations whose scenes differ in their number of targets
    run one clip at a time.
    """
    names = [f.name for f in dataclasses.fields(NVSSample) if f.type is Tensor]
    return NVSBatch(
        keys=[sample.key for sample in samples],
        captions=[sample.caption for sample in samples],
        **{name: torch.stack([getattr(sample, name) for sample in samples]) for name in names},
    )


class PosedVideoDataset:
    """Training samples: clips with frames chosen by chance, the same for the same seed.

    With ``samplings_per_clip`` each clip has that many fixed choices of frames, so that features
    can be cached; without, every epoch has fresh ones.

    Attributes:
        clips: the clips in use.
        skipped: clips that allow no sampling (too short, cameras that hardly move or jump far
            away), with reasons.
    """

    def __init__(
        self,
        clips: Sequence[PosedClip],
        card: DatasetCard,
        *,
        frames: int,
        targets: int,
        height: int,
        width: int,
        seed: int = 0,
        samplings_per_clip: int | None = None,
    ) -> None:
        """Make the first choice of frames of every clip, to leave out those that allow none.

        Args:
            clips: from a reader.
            card: gives spans, scale and the least baseline.
            frames: input frames F, at least 2.
            targets: held-out views K.
            height, width: pictures are resized to cover this and cropped to it around the centre.
            seed: of the choice of frames.
            samplings_per_clip: see the class; None: fresh ones every epoch.

        Raises:
            InputError: no clip allows a sampling.
        """
        self.card = card
        self.frames, self.targets = frames, targets
        self.height, self.width = height, width
        self.seed = seed
        self.samplings_per_clip = samplings_per_clip
        self.clips: list[PosedClip] = []
        self.skipped: list[Skipped] = []
        for clip in clips:
            try:
                self._choose(clip, 0)
                self.clips.append(clip)
            except ClipError as error:
                self.skipped.append(Skipped(clip.key, str(error)))
        _require_clips(self.clips, self.skipped)

    def __len__(self) -> int:
        return len(self.clips) * (self.samplings_per_clip or 1)

    def sample(self, index: int, epoch: int) -> NVSSample | Skipped:
        """Read one sample: a function of the set's seed, ``index`` and ``epoch`` alone."""
        clip = self.clips[index % len(self.clips)]
        fixed = self.samplings_per_clip is not None
        sampling = index // len(self.clips) if fixed else epoch
        try:
            choice = self._choose(clip, sampling)
            return make_sample(clip, choice, self.card, height=self.height, width=self.width)
        except ClipError as error:
            return Skipped(clip.key, str(error))

    def _choose(self, clip: PosedClip, sampling: int) -> FrameChoice:
        rng = random.Random(f"{self.seed}/{clip.key}/{sampling}")
        reason = None
        for _ in range(_ATTEMPTS):
            choice = sample_frames(
                clip.num_frames,
                frames=self.frames,
                targets=self.targets,
                min_span=self.card.min_span,
                max_span=self.card.max_span,
                rng=rng,
            )
            try:
                check_cameras(clip, choice, self.card)
            except ClipError as error:
                reason = error
            else:
                return choice
        raise ClipError(str(reason))


class EvaluationDataset:
    """Evaluation samples: one per clip, with the frames of a :class:`FrameChoices`.

    Attributes:
        clips: the clips in use.
        skipped: those of the choices, and clips whose cameras hardly move or jump far away.
    """

    def __init__(
        self,
        clips: Sequence[PosedClip],
        card: DatasetCard,
        choices: FrameChoices,
        *,
        height: int,
        width: int,
    ) -> None:
        """Join clips and choices; arguments as in :class:`PosedVideoDataset`.

        Raises:
            InputError: no clip is left.
        """
        self.card = card
        self.height, self.width = height, width
        self.choices = choices.choices
        self.clips: list[PosedClip] = []
        self.skipped = list(choices.skipped)
        for clip in clips:
            if clip.key not in self.choices:
                continue  # among the skipped already
            try:
                check_cameras(clip, self.choices[clip.key], card)
                self.clips.append(clip)
            except ClipError as error:
                self.skipped.append(Skipped(clip.key, str(error)))
        _require_clips(self.clips, self.skipped)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> NVSSample | Skipped:
        """Read the sample of clip number ``index``."""
        clip = self.clips[index]
        try:
            return make_sample(
                clip, self.choices[clip.key], self.card, height=self.height, width=self.width
            )
        except ClipError as error:
            return Skipped(clip.key, str(error))


def make_sample(
    clip: PosedClip, choice: FrameChoice, card: DatasetCard, *, height: int, width: int
) -> NVSSample:
    """Read, resize and crop the chosen frames and put their cameras into the sample's world.

    Raises:
        ClipError: the frames cannot be read, or their cameras have no scale or lie too far away.
    """
    indices = [*choice.inputs, *choice.targets]
    count = len(choice.inputs)
    pictures = resize_crop(clip.read(indices), height, width)  # [F + K, 3, H, W]
    Ks = resize_crop_intrinsics(
        Ks_from_normalized(clip.intrinsics[indices], clip.width, clip.height),
        clip.width,
        clip.height,
        width,
        height,
    ).float()
    scale = world_scale(clip, choice, card)
    viewmats = relative_to_first(clip.viewmats[indices])
    viewmats[:, :3, 3] *= scale
    check_distances(viewmats[:, :3, 3])
    viewmats = viewmats.float()
    return NVSSample(
        key=_sample_key(clip.key, choice),
        clip_key=clip.key,
        video=pictures[:count].transpose(0, 1).contiguous(),
        input_viewmats=viewmats[:count],
        input_Ks=Ks[:count],
        target_images=pictures[count:],
        target_viewmats=viewmats[count:],
        target_Ks=Ks[count:],
        input_indices=torch.tensor(choice.inputs),
        target_indices=torch.tensor(choice.targets),
        world_scale=torch.tensor(scale, dtype=torch.float32),
        caption=clip.caption,
    )


def resize_crop(pictures: np.ndarray, height: int, width: int) -> Tensor:
    """Resize (Lanczos, antialiased) to cover height x width, then crop around the centre.

    Args:
        pictures: uint8 [n, h, w, 3].
        height, width: the result's size. ``recon.cameras.resize_crop_intrinsics`` follows exactly.

    Returns:
        float32 [n, 3, height, width] in [0, 1].
    """
    plan = resize_crop_geometry(pictures.shape[2], pictures.shape[1], width, height)
    box = (plan.left, plan.top, plan.left + width, plan.top + height)
    out = np.empty((len(pictures), height, width, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        resized = Image.fromarray(picture).resize(
            (plan.width, plan.height), Image.Resampling.LANCZOS
        )
        out[i] = np.asarray(resized.crop(box))
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 255


def _sample_key(clip_key: str, choice: FrameChoice) -> str:
    digest = hashlib.blake2b(repr(tuple(choice.inputs)).encode(), digest_size=6).hexdigest()
    return f"{clip_key}.{choice.inputs[0]}-{choice.inputs[-1]}.{digest}"


def _require_clips(clips: Sequence[PosedClip], skipped: Sequence[Skipped]) -> None:
    if not clips:
        raise InputError(f"no clip gives a sample{reasons(skipped)}")
