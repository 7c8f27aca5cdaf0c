"""The objectives of a DiT's training: flow matching, and guidance distilled into one forward."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.noise import noised
from mmdiff_video.pretraining.denoisers import Denoiser
from mmdiff_video.pretraining.timesteps import FlowConfig, random_timesteps

NO_GUIDANCE = 1.0
"""The scale at which classifier-free guidance is the conditional prediction itself."""

_LEAST_T = 0.25


def flow_point(x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return x_t and the velocity there, eps - x_0, both shaped as x_0.

    Args:
        x0, eps: [N, ...].
        t: [N].
    """
    return noised(x0, eps, t.reshape(-1, *[1] * (x0.ndim - 1))), eps - x0


def sample_weight(t: Tensor) -> Tensor:
    """Weight of the velocity's squared error where a model predicts the clean sample, [N].

    The velocity's error is the sample's over t, so that small t would rule the loss (Li and He
    2025, arXiv:2511.13720, therefore divide by 0.05 at least). With this weight the sample's
    squared error counts 1 / 0.25^2 at every t below 0.25: what little noise is left there hides
    finer detail than a narrow model can carry from its input to its output.

    Args:
        t: [N], in (0, 1].
    """
    return (t / _LEAST_T).clamp(max=1).square()


class Objective(ABC):
    """A loss of the denoiser, called with (model, batch); what a stage's ``objective`` names.

    Attributes:
        teaches_guidance: whether the model learns what the guidance scale that it is told means, so
            that it can sample with any.
    """

    teaches_guidance: ClassVar[bool]

    @classmethod
    @abstractmethod
    def begin(
        cls, model: Denoiser, flow: FlowConfig, guidance: tuple[float, float], *, bf16: bool
    ) -> Self:
        """Make the objective of a stage, and the model ready for it.

        Args:
            model: as the stage begins.
            flow: timesteps and their shift.
            guidance: range of scales to learn.
            bf16: run what is not trained under autocast.
        """

    @abstractmethod
    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of one batch, ``latent`` [N, c, F, h, w] and ``tokens``, and what to log."""


class FlowMatching(Objective):
    """Mean squared error of the velocity at a random t.

    A guidance-distilled model is told :data:`NO_GUIDANCE`. For a model that predicts the clean
    sample see :func:`sample_weight`.

    Args:
        config: timesteps and their shift.
        predicts_sample: whether the model does that.
    """

    teaches_guidance = False

    def __init__(self, config: FlowConfig, *, predicts_sample: bool = False):
        self.config, self.predicts_sample = config, predicts_sample

    @classmethod
    def begin(
        cls, model: Denoiser, flow: FlowConfig, guidance: tuple[float, float], *, bf16: bool
    ) -> Self:
        return cls(flow, predicts_sample=model.predicts_sample)

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, Mapping[str, Tensor]]:
        x0 = batch["latent"].float()
        t = random_timesteps(len(x0), self.config, x0.device)
        noisy, velocity = flow_point(x0, torch.randn_like(x0), t)
        predicted = model(noisy, t, batch["tokens"], torch.full_like(t, NO_GUIDANCE))
        error = (predicted - velocity).square().mean((1, 2, 3, 4))
        if self.predicts_sample:
            error = error * sample_weight(t)
        return error.mean(), {}


class GuidanceDistillation(Objective):
    """Mean squared distance to a teacher's guided velocity, for the scale that the model is told.

    After Meng et al. 2023 (arXiv:2210.03142, stage one). The teacher is the model as it is now,
    told :data:`NO_GUIDANCE`; v = v_0 + g (v_c - v_0), where v_c is its answer to the prompt and v_0
    that to the empty prompt. Given the empty prompt itself, v is v_0 for any scale.

    Args:
        config: timesteps and their shift.
        model: as the stage begins; copied.
        guidance: range of g, all of it as likely.
        bf16: run the teacher under autocast.
    """

    teaches_guidance = True

    def __init__(
        self, config: FlowConfig, model: Denoiser, guidance: tuple[float, float], *, bf16: bool
    ):
        self.config, self.guidance, self.bf16 = config, guidance, bf16
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self.empty = model.tokenize([""])

    @classmethod
    def begin(
        cls, model: Denoiser, flow: FlowConfig, guidance: tuple[float, float], *, bf16: bool
    ) -> Self:
        # other scales begin as the one that is known, not as noise; a checkpoint overwrites it
        model.forget_guidance(NO_GUIDANCE)
        return cls(flow, model, guidance, bf16=bf16)

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, Mapping[str, Tensor]]:
        x0, tokens = batch["latent"].float(), batch["tokens"]
        count = len(x0)
        t = random_timesteps(count, self.config, x0.device)
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


OBJECTIVES: dict[str, type[Objective]] = {"flow": FlowMatching, "guidance": GuidanceDistillation}
"""Name in a config -> objective."""
