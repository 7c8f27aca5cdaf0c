"""The fit itself: render some views, compare, move the Gaussians."""

import math
from typing import Any

import torch
from torch import Tensor

from recon.fit.config import FitConfig
from recon.fit.corrections import ExposureCorrection, PoseCorrection
from recon.fit.parameters import SceneParameters
from recon.fit.priors import Priors
from recon.fit.views import FitViews
from recon.gaussians import Gaussians
from recon.losses import l1_ssim
from recon.metrics import SSIM_WINDOW

_MEANS_FALL, _CORRECTIONS_FALL = 0.01, 0.05
"""Share of their rates that is left at the end."""

_SETTLED = 0.05
"""Share of the fit after which cameras and exposures may move: before it, they would be fitted to
noise."""

_LAST_RELOCATION = 0.9
"""Share of the fit after which Gaussians stay where they are."""

_EPOCH_SEED = 1 << 20
"""More than the relocations of any fit: keeps the random numbers of both apart."""


class Fit:
    """One scene on its way from a start to its pictures.

    Args:
        views: to fit, in units in which the median depth of the scene is about 1.
        start: the Gaussians to begin with, on the device of ``views``, where all is done.
        config: how.
        priors: depth and normals of the views, priced by ``config``.
    """

    def __init__(
        self,
        views: FitViews,
        start: Gaussians,
        config: FitConfig,
        priors: Priors | None = None,
    ):
        self.config = config
        self.views = views
        self.pyramid = [views]
        while config.coarse and len(self.pyramid) < 3 and _can_halve(self.pyramid[-1]):
            self.pyramid.append(self.pyramid[-1].halved())
        self.priors = [priors or Priors()]
        while len(self.priors) < len(self.pyramid):
            self.priors.append(self.priors[-1].halved())
        self.scene = SceneParameters(start, config.sh_degree)
        device = views.images.device
        self.poses = PoseCorrection(len(views)).to(device)
        self.exposures = ExposureCorrection(len(views)).to(device)
        rates = config.rates
        self.optimizer = torch.optim.Adam(
            [
                {"params": [self.scene.means], "lr": rates.means},
                {"params": [self.scene.log_scales], "lr": rates.scales},
                {"params": [self.scene.quats], "lr": rates.quats},
                {"params": [self.scene.logits], "lr": rates.opacities},
                {"params": [self.scene.constant], "lr": rates.colors},
                {"params": [self.scene.harmonics], "lr": rates.harmonics},
            ],
            eps=1e-15,
            fused=True,
        )
        corrections: list[dict[str, Any]] = []
        if config.refine_poses:
            corrections.append({"params": list(self.poses.parameters()), "lr": rates.poses})
        if config.exposures:
            corrections.append({"params": list(self.exposures.parameters()), "lr": rates.exposures})
        self.corrector = torch.optim.Adam(corrections) if corrections else None
        self.step = 0

    def run(self, steps: int = 1, *, progress: float | None = None) -> dict[str, float]:
        """Do some steps.

        Args:
            steps: how many.
            progress: share of the fit that is done, where time and not ``config.steps`` ends it.

        Returns:
            of the last step: ``loss``, ``psnr`` in dB (of the training views in it) and
            ``relocated``.
        """
        logs: dict[str, float] = {}
        for _ in range(steps):
            logs = self._step(self.step / self.config.steps if progress is None else progress)
        return logs

    def _step(self, done: float) -> dict[str, float]:
        config = self.config
        chosen = self._views_of(self.step)
        level = 0 if done >= config.coarse else 1 if done >= config.coarse / 2 else 2
        level = min(level, len(self.pyramid) - 1)
        views = self.pyramid[level]
        target = views.images[chosen].float() / 255
        viewmats = self.poses(chosen, views.viewmats[chosen])
        rendered = self.scene.render(
            viewmats, views.Ks[chosen], views.width, views.height, self._degree(done), config.engine
        )
        image = self.exposures(chosen, rendered.image) if config.exposures else rendered.image
        mask = None
        if views.masks is not None:
            mask = views.masks[chosen]
            target = target * mask[..., None]  # SSIM's windows reach over the edge of the mask
        loss = l1_ssim(image.movedim(-1, 1), target.movedim(-1, 1), config.ssim, mask).mean()
        loss = loss + config.opacity_price * self.scene.logits.sigmoid().mean()
        loss = loss + config.scale_price * self.scene.log_scales.exp().mean()
        loss = loss + self.priors[level].price(
            chosen, rendered, views.Ks[chosen], config.depth_price, config.normal_price
        )
        self._move(loss, done)
        self.step += 1
        relocated = 0
        if self.step % config.relocate_every == 0 and done < _LAST_RELOCATION:
            relocated = self.scene.relocate(
                self.optimizer, config.dead_opacity, self._rng(self.step // config.relocate_every)
            )
        return {
            "loss": float(loss.detach()),
            "psnr": _psnr(image.detach(), target, mask),
            "relocated": relocated,
        }

    def _move(self, loss: Tensor, done: float) -> None:
        config = self.config
        self.optimizer.zero_grad()
        if self.corrector is not None:
            self.corrector.zero_grad()
        loss.backward()
        rate = config.rates.means * _MEANS_FALL**done
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        if self.corrector is not None and done >= _SETTLED:
            rates = [config.rates.poses] * config.refine_poses
            rates += [config.rates.exposures] * config.exposures
            for group, start in zip(self.corrector.param_groups, rates, strict=True):
                group["lr"] = start * _CORRECTIONS_FALL**done
            self.corrector.step()
        if config.noise:
            self.scene.stir(config.noise * rate, self._rng(-1 - self.step))

    @torch.no_grad()
    def render(self, viewmats: Tensor, Ks: Tensor, width: int, height: int) -> Tensor:
        """Render views [V, H, W, 3] of the scene as it is, unclipped, without corrections."""
        return self.scene.render(
            viewmats, Ks, width, height, self.config.sh_degree, self.config.engine
        ).image

    @torch.no_grad()
    def viewmats(self) -> Tensor:
        """Cameras of the training views as they are now [V, 4, 4]."""
        return self.poses(torch.arange(len(self.views)), self.views.viewmats)

    def state(self) -> dict[str, Tensor]:
        """All that a fit goes on from, as tensors by name: see :meth:`restore`."""
        tensors: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        for kind, module in self._modules().items():
            tensors |= {f"{kind}.{name}": t.clone() for name, t in module.state_dict().items()}
        for kind, optimizer in self._optimizers().items():
            for number, slots in optimizer.state_dict()["state"].items():
                for name, value in slots.items():
                    tensors[f"{kind}.{number}.{name}"] = torch.as_tensor(value).clone()
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state` of a fit of the same views and settings.

        Raises:
            ValueError: it is of another fit.
        """
        try:
            for kind, module in self._modules().items():
                module.load_state_dict(_below(tensors, kind))
            for kind, optimizer in self._optimizers().items():
                packed = optimizer.state_dict()
                packed["state"] = {}
                for key, value in _below(tensors, kind).items():
                    number, _, name = key.partition(".")
                    packed["state"].setdefault(int(number), {})[name] = value
                optimizer.load_state_dict(packed)
            self.step = int(tensors["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"this is the state of another fit: {error}") from None

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"scene": self.scene, "poses": self.poses, "exposures": self.exposures}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        found: dict[str, torch.optim.Optimizer] = {"moments": self.optimizer}
        if self.corrector is not None:
            found["corrections"] = self.corrector
        return found

    def _degree(self, done: float) -> int:
        """Of the harmonics: one more at each equal share of the fit."""
        return min(self.config.sh_degree, int(done * (self.config.sh_degree + 1)))

    def _views_of(self, step: int) -> Tensor:
        """Numbers of the views of a step: all of them in each epoch, in an order of its own."""
        first = step * self.config.views_per_step
        numbers = []
        for place in range(first, first + self.config.views_per_step):
            epoch, inside = divmod(place, len(self.views))
            order = torch.randperm(len(self.views), generator=self._rng(_EPOCH_SEED + epoch))
            numbers.append(order[inside])
        return torch.stack(numbers)

    def _rng(self, number: int) -> torch.Generator:
        seed = (self.config.seed * 1_000_003 + number) % 2**63
        return torch.Generator().manual_seed(seed)


def _can_halve(views: FitViews) -> bool:
    return min(views.height, views.width) // 2 >= 2 * SSIM_WINDOW


def _psnr(image: Tensor, target: Tensor, mask: Tensor | None) -> float:
    """In dB, over the pixels that count."""
    squared = (image - target).square()
    mse = float((squared if mask is None else squared[mask]).mean())
    return -10 * math.log10(max(mse, 1e-12)) if math.isfinite(mse) else math.nan


def _below(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    prefix = f"{kind}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
