"""Flow matching, and the distillation of guidance into one forward."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.noise import noised
from mmdiff_video.pretraining.config import FlowConfig
from mmdiff_video.pretraining.denoisers import Denoiser

NO_GUIDANCE = 1.0
"""The scale at which classifier-free guidance is the conditional prediction itself."""

_LEAST_T = 0.25

_SMALLEST_DRAW = 1e-6
"""In place of a t of 0, which torch.rand can draw: the velocity to a predicted sample is over t."""


def draw_timesteps(count: int, config: FlowConfig, device: torch.device) -> Tensor:
    """Draw t in (0, 1], [count], from torch's generator."""
    if config.timesteps == "uniform":
        t = torch.rand(count, device=device)
    else:
        t = torch.randn(count, device=device).sigmoid()
    # rounding may lift the shifted t just above 1
    return (config.shift * t / (1 + (config.shift - 1) * t)).clamp(_SMALLEST_DRAW, 1)


def flow_point(x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return x_t and the velocity there, eps - x_0.

    Args:
        x0, eps: [N, ...].
        t: [N].
    """
    return noised(x0, eps, t.reshape(-1, *[1] * (x0.ndim - 1))), eps - x0


def sample_weight(t: Tensor) -> Tensor:
    """Weight of the velocity's squared error where a model predicts the clean sample, [N].

    The velocity is off by the sample's error over t (Li and He 2025, arXiv:2511.13720, who bound
    that at 0.05). Below t = 0.25 the error counts as it does there: what is left to remove is finer
    than what a narrow model carries from end to end.
    """
    return (t / _LEAST_T).clamp(max=1).square()


class FlowMatching:
    """Mean squared error of the velocity at a random t.

    A guidance-distilled model is told :data:`NO_GUIDANCE`. For a model that predicts the clean
    sample see :func:`sample_weight`.

    Args:
        config: timesteps and prompt dropout.
        predicts_sample: whether the model does that.
    """

    def __init__(self, config: FlowConfig, *, predicts_sample: bool = False):
        self.config, self.predicts_sample = config, predicts_sample

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of one batch: ``latent`` [N, c, F, h, w] and ``tokens``."""
        x0 = batch["latent"].float()
        t = draw_timesteps(len(x0), self.config, x0.device)
        noisy, velocity = flow_point(x0, torch.randn_like(x0), t)
        predicted = model(noisy, t, batch["tokens"], torch.full_like(t, NO_GUIDANCE))
        error = (predicted - velocity).square().mean((1, 2, 3, 4))
        if self.predicts_sample:
            error = error * sample_weight(t)
        return error.mean(), {}


class GuidanceDistillation:
    """Mean squared distance to a teacher's guided velocity, for the scale that the model is told.

    The teacher is the model as it is now, told :data:`NO_GUIDANCE`; v = v_0 + g (v_c - v_0), where
    v_0 is its answer to the empty prompt. Given the empty prompt itself, v is v_0 for any scale.

    Args:
        config: timesteps and prompt dropout.
        model: as the stage begins.
        guidance: range of g.
        bf16: run the teacher under autocast.
    """

    def __init__(
        self, config: FlowConfig, model: Denoiser, guidance: tuple[float, float], *, bf16: bool
    ):
        self.config, self.guidance, self.bf16 = config, guidance, bf16
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self.empty = model.tokenize([""])

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of one batch: ``latent`` [N, c, F, h, w] and ``tokens``."""
        x0, tokens = batch["latent"].float(), batch["tokens"]
        count = len(x0)
        t = draw_timesteps(count, self.config, x0.device)
        noisy, _ = flow_point(x0, torch.randn_like(x0), t)
        low, high = self.guidance
        scale = low + (high - low) * torch.rand_like(t)
        target = self._guided(noisy, t, tokens, scale)
        return (model(noisy, t, tokens, scale) - target).square().mean(), {}

    @torch.no_grad()
    def _guided(self, noisy: Tensor, t: Tensor, tokens: dict, scale: Tensor) -> Tensor:
        teacher = self.teacher.to(noisy.device)
        empty = {name: ids.to(noisy.device) for name, ids in self.empty.items()}
        both = {
            name: torch.cat([ids, empty[name].expand(len(ids), -1)]) for name, ids in tokens.items()
        }
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self.bf16):
            answer = teacher(
                noisy.repeat(2, 1, 1, 1, 1),
                t.repeat(2),
                both,
                torch.full_like(t, NO_GUIDANCE).repeat(2),
            )
        with_prompt, without = answer.float().chunk(2)
        return without + scale.reshape(-1, 1, 1, 1, 1) * (with_prompt - without)
