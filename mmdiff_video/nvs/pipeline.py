"""A trained run, opened for use: clips in, 3D Gaussians out."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.base import Backbone
from mmdiff_video.datasets.clips.views import NVSBatch
from mmdiff_video.errors import InputError
from mmdiff_video.features.source import CacheConfig, warn_of_other_weights
from mmdiff_video.nvs.config import NVSConfig
from mmdiff_video.nvs.setup import Setup, set_up
from mmdiff_video.runs import open_run
from mmdiff_video.training import load_model
from recon.cameras import invert_rigid, relative_to_first
from recon.gaussians import Gaussians


@dataclass(frozen=True)
class Reconstructor:
    """Turns posed clips into Gaussians with the averaged weights of a run.

        reconstructor = Reconstructor.from_run("runs/nano")
        gaussians = reconstructor.predict(images, Ks, viewmats)

    Attributes:
        setup: what the run is made of.
        model: its trained part, in evaluation mode.
        step: how many steps it was trained.
    """

    setup: Setup
    model: nn.Module
    step: int

    @classmethod
    def from_run(
        cls,
        run: Path | str,
        data_root: Path | str | None = None,
        backbone: Backbone | None = None,
        cache: CacheConfig | None = None,
    ) -> "Reconstructor":
        """Open the newest checkpoint of a run folder; warns where its backbone has changed.

        Args:
            run: written by ``train-3dgs``.
            data_root: where its data lies now, if it moved.
            backbone: the run's, if it is loaded already.
            cache: of features; None: none. What the run's own config says of one is not followed:
                it would decide what is written and deleted here.

        Raises:
            InputError: no run there, one of another kind, or a checkpoint that does not fit its
                config.
        """
        opened = open_run(run, "3dgs")
        config = opened.read_config(NVSConfig)
        config = replace(config, cache=cache or CacheConfig())
        if data_root is not None:
            config = replace(config, data=replace(config.data, root=str(data_root)))
        setup = set_up(config, backbone)
        warn_of_other_weights(opened.folder, opened.facts.backbone_fingerprint, setup.backbone)
        step = load_model(opened.folder, setup.model, ema=True)
        return cls(setup, setup.model.eval(), step)

    @torch.no_grad()
    def reconstruct(self, batch: NVSBatch) -> Gaussians:
        """Decode a batch of data-set samples; Gaussians [B, G, ...] in each sample's world."""
        return self.setup.reconstruct(self.model, batch.to(self.setup.backbone.device))

    @torch.no_grad()
    def predict(
        self, images: Tensor, Ks: Tensor, viewmats: Tensor, caption: str | None = None
    ) -> Gaussians:
        """Reconstruct one clip of your own.

        Args:
            images: [F, 3, H, W] in [0, 1], of a number and size that the backbone takes (an error
                names the nearest that it does).
            Ks: [F, 3, 3] in pixels, principal point from the top-left corner.
            viewmats: [F, 4, 4] world-to-camera, OpenCV axes, in any unit of length.
            caption: what the clip shows; None: the run's prompt.

        Returns:
            Gaussians without batch dimension, in the world and unit of ``viewmats``.

        Raises:
            InputError: shapes or a size that do not fit, or (for data sets scaled by their
                baseline) first and last cameras in one place.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images must be [F, 3, H, W], not {list(images.shape)}")
        frames, _, height, width = images.shape
        if viewmats.shape != (frames, 4, 4) or Ks.shape != (frames, 3, 3):
            raise InputError(
                f"{frames} images need viewmats {(frames, 4, 4)} and Ks {(frames, 3, 3)}, not"
                f" {tuple(viewmats.shape)} and {tuple(Ks.shape)}"
            )
        self.setup.backbone.geometry.check_size(frames, height, width)
        device = self.setup.backbone.device
        images, Ks, viewmats = (x.to(device, torch.float32) for x in (images, Ks, viewmats))
        scale = 1.0
        if self.setup.card.world_scale == "unit_baseline":
            centres = invert_rigid(viewmats)[:, :3, 3]
            length = float((centres[-1] - centres[0]).norm())
            if length < 1e-8:
                raise InputError("the first and the last camera are in one place: no scale")
            scale = 1 / length
        local = relative_to_first(viewmats)
        local = torch.cat(
            [torch.cat([local[:, :3, :3], local[:, :3, 3:] * scale], 2), local[:, 3:]], 1
        )
        key = hashlib.blake2b(images.cpu().numpy().tobytes(), digest_size=8).hexdigest()
        features = self.setup.source(images.movedim(0, 1)[None], [key], [caption])
        decoded = self.model(features, local[None], Ks[None], height, width)[0]
        in_first = replace(decoded, means=decoded.means / scale, scales=decoded.scales / scale)
        return in_first.transform(invert_rigid(viewmats[0]))
