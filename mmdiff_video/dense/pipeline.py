"""A trained run, opened for use: pictures or clips in, dense predictions out."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.config import load_config, save_config
from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.datasets.pictures.views import resize_to_cover
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.saved import (
    CONFIG,
    FACTS,
    WEIGHTS,
    find_saved,
    push_to_hub,
    read_facts,
)
from mmdiff_video.dense.setup import DenseSetup, set_up_dense
from mmdiff_video.errors import InputError
from mmdiff_video.features.source import CacheConfig, warn_of_other_weights
from mmdiff_video.files import write_aside, write_json
from mmdiff_video.tasks import task_named
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors

_STEP = "step"
"""The key of the step in the metadata of the weights."""


@dataclass(frozen=True)
class DenseModel:
    """Predicts with the averaged weights of a run.

        model = DenseModel.from_pretrained("runs/depth")
        depth = model.predict(images)             # [N, 3, H, W] in [0, 1] -> [N, 1, H, W]

    Attributes:
        setup: what the run is made of; ``setup.model`` is the trained part.
        classes: of a segmentation, else None.
        step: how many steps it was trained.
    """

    setup: DenseSetup
    classes: Classes | None
    step: int

    @classmethod
    def from_pretrained(cls, folder: Path | str, backbone: Backbone | None = None) -> "DenseModel":
        """Open a run folder, or what :meth:`save_pretrained` wrote.

        Warns where the backbone is not the one that it was trained on.

        Args:
            folder: a folder, or the id of a repository on the Hugging Face Hub.
            backbone: the run's, if it is loaded already.

        Raises:
            InputError: no such folder or repository, an unfinished run, damaged facts, weights that
                do not fit.
        """
        folder = find_saved(folder)
        # each input is seen once: it would only fill the feature cache of the training run
        config = replace(load_config(DenseConfig, folder / CONFIG), cache=CacheConfig())
        facts = read_facts(folder)
        if facts.classes is None and task_named(config.task).labels.has_classes:
            raise InputError(f"'{folder / FACTS}' names no classes, which {config.task} needs")
        setup = set_up_dense(config, facts.classes, backbone)
        warn_of_other_weights(folder, facts.backbone_fingerprint, setup.backbone)
        _load_weights(setup.model, folder / WEIGHTS, facts.step)
        setup.model.eval()
        return cls(setup, facts.classes, facts.step)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config, facts and weights, without the backbone, into a folder."""
        folder = Path(folder)
        with write_aside(folder / WEIGHTS) as aside:
            save_tensors(aside, self.setup.model.state_dict(), {_STEP: str(self.step)})
        write_json(
            folder / FACTS,
            {
                "task": self.setup.task.name,
                "classes": None if self.classes is None else self.classes._asdict(),
                "step": self.step,
                "backbone": self.setup.backbone.name,
                "backbone_fingerprint": self.setup.backbone.fingerprint,
                "untrained_backbone": self.setup.backbone.untrained,
                "notice": self.setup.notice,
                "loss": asdict(self.setup.config.loss),
            },
        )
        save_config(self.setup.config, folder / CONFIG)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Upload what :meth:`save_pretrained` writes; see :func:`push_to_hub`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_to_hub(Path(folder), repo_id, private=private)

    def predict(
        self,
        images: Tensor,
        captions: Sequence[str | None] | None = None,
        keys: Sequence[str] | None = None,
    ) -> Tensor:
        """Predict for pictures of one size.

        Args:
            images: [N, 3, H, W] in [0, 1], of any size; they are resized for the backbone.
            captions: what each shows; where there is none, the run's prompt stands in.
            keys: name the pictures for their noise (same key, same noise); None: a hash of the
                pixels.

        Returns:
            [N, C, H, W] on the CPU, of the size of the images, with the task's channels C: class
            ids, metres or saliency in [0, 1] (C = 1), unit normals (C = 3).

        Raises:
            InputError: not a stack of pictures, or the run's output is not finite.
        """
        return self.setup.task.decode(self.outputs(images, None, captions, keys)).cpu()

    def outputs(
        self,
        images: Tensor,
        size: tuple[int, int] | None = None,
        captions: Sequence[str | None] | None = None,
        keys: Sequence[str] | None = None,
    ) -> Tensor:
        """What the head gives for pictures of one size, before its task decodes it.

        Args:
            images, captions, keys: as in :meth:`predict`.
            size: height and width of the result; None: those of the images.

        Returns:
            [N, K, height, width] float32 on the backbone's device; K is ``setup.task.outputs``.

        Raises:
            InputError: as :meth:`predict`.
        """
        _check_pictures(images)
        output = self._output(images[:, :, None], captions, keys)
        return _resized(output[:, :, 0], size or images.shape[2:])

    def predict_video(self, frames: Tensor, caption: str | None = None) -> Tensor:
        """Predict for every frame of a clip.

        A video backbone sees the clip at once: its F latent frames are decoded each by itself, and
        the output is interpolated to the frames between. An image backbone takes frame by frame.

        Args:
            frames: [T, 3, H, W] in [0, 1]; a video backbone wants T = 1 + a multiple of its time
                stride, and gets the last frame again until that is so.
            caption: what the clip shows.

        Returns:
            [T, C, H, W] on the CPU, as :meth:`predict`.

        Raises:
            InputError: not a stack of pictures, or the run's output is not finite.
        """
        _check_pictures(frames)
        count = len(frames)
        stride = self.setup.backbone.geometry.time_stride
        lacking = -(count - 1) % stride
        padded = torch.cat([frames, frames[-1:].expand(lacking, -1, -1, -1)])
        video = padded.transpose(0, 1)[None]
        output = self._output(video, [caption], None)
        return self.decode_video(output[0].float(), count, frames.shape[2:])

    @torch.no_grad()
    def predict_features(self, features: DiTFeatures, video: Tensor) -> Tensor:
        """Predict from what was read while sampling.

        Args:
            features: of one sample, with the run's taps, timesteps and concepts.
            video: [1, 3, T, H, W] in [0, 1], what was sampled.

        Returns:
            [T, C, H, W] on the CPU, as :meth:`predict`.
        """
        output = self.setup.decode(self.setup.model, features, video)
        return self.decode_video(output[0].float(), video.shape[2], video.shape[3:])

    def decode_video(self, output: Tensor, count: int, size: Sequence[int]) -> Tensor:
        """Turn the output of F latent frames into predictions for every frame.

        Args:
            output: [K, F, h, w].
            count: frames of the clip.
            size: H and W of the predictions.

        Returns:
            [count, C, H, W] on the CPU.
        """
        output = output.transpose(0, 1)
        stride = self.setup.backbone.geometry.time_stride
        # latent frame 0 is frame 0, latent frame i the stride frames up to frame i * stride
        place = ((torch.arange(count) + (stride - 1) / 2) / stride).clamp(0, len(output) - 1)
        place[0] = 0
        before = place.floor().long()
        after = (before + 1).clamp_max(len(output) - 1)
        share = place - before
        found = []
        for i in range(count):  # one at a time: full-size scores of all frames may not fit
            mixed = torch.lerp(output[before[i]], output[after[i]], float(share[i]))
            found.append(self._decode(mixed[None], size))
        return torch.cat(found)

    @torch.no_grad()
    def _output(
        self, video: Tensor, captions: Sequence[str | None] | None, keys: Sequence[str] | None
    ) -> Tensor:
        """[N, 3, T, H, W] to the head's output [N, K, F, h, w]."""
        setup = self.setup
        flat = video.transpose(1, 2).flatten(0, 1).float()
        fitted = resize_to_cover(flat, setup.height, setup.width, setup.unit)
        video = fitted.unflatten(0, (len(video), -1)).transpose(1, 2)
        if keys is None:
            keys = [
                hashlib.blake2b(v.cpu().numpy().tobytes(), digest_size=8).hexdigest() for v in video
            ]
        return setup.read(setup.model, video.to(setup.backbone.device), keys, captions).float()

    def _decode(self, output: Tensor, size: Sequence[int]) -> Tensor:
        resized = _resized(output, size)
        return self.setup.task.decode(resized).cpu()


def _resized(output: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a head's output [N, K, h, w] to the size of what it is shown with."""
    if not output.isfinite().all():  # what decodes it would make it look like a prediction
        raise InputError(
            "the head gave numbers that are not finite: the run diverged, or its weights are"
            " damaged; train anew, at a lower rate"
        )
    return F.interpolate(output, tuple(size), mode="bilinear", align_corners=False)


def _load_weights(model: nn.Module, file: Path, step: int) -> None:
    """Fill a model with its weights, if they are those of a step."""
    try:
        tensors, metadata = load_tensors(file)
        of_step = metadata.get(_STEP, str(step))  # version 0.1.0 does not say
        if of_step != str(step):
            raise DamagedError(f"it is of step {of_step}, and {FACTS} of step {step}")
        model.load_state_dict(tensors)
    except PermissionError:
        raise
    except (DamagedError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"'{file}' is damaged or of another model ({reason}): restore it from a copy, or go on"
            " with the run (--resume), which writes it anew from its last checkpoint"
        ) from None


def _check_pictures(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"pictures must be [N, 3, H, W], not {list(images.shape)}")
