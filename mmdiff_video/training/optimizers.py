"""The optimisers: what ``train.optimizer`` names. A further one is a class here and its line below.

All keep float32 weights and name their parameters, by which checkpoints store what an optimiser
remembers of each. Every parameter group has a ``lr_factor``, its factor on the learning rate.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from mmdiff_video.training.muon import Muon, hidden_weights
from mmdiff_video.training.precision import takes_bf16


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(ABC):
    """An optimiser's settings, which build it.

    Attributes:
        lr: learning rate, at first; :func:`set_lr` changes it.
        weight_decay: decoupled decay (Loshchilov and Hutter 2019) of tensors with two or more axes:
            not of biases, norms and gates.
        precision: ``auto``, ``bf16`` or ``fp32``, for an optimiser with matrix products of its own.
    """

    lr: float
    weight_decay: float
    precision: str

    @abstractmethod
    def build(self, model: nn.Module, lr_factors: Mapping[str, float]) -> Optimizer:
        """Make the optimiser of a model; on several processes, all call it together.

        Args:
            model: its trainable parameters must be float32; frozen ones are left out.
            lr_factors: start of a parameter's name -> factor on the learning rate; where several
                match, the longest wins; without a match the factor is 1.

        Raises:
            ValueError: a start that no trainable parameter has, or nothing to train.
        """


class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019) on everything."""

    def build(self, model: nn.Module, lr_factors: Mapping[str, float]) -> Optimizer:
        groups = parameter_groups(model, lr_factors, self.weight_decay)
        return AdamW(groups, lr=self.lr)


class MuonConfig(OptimizerConfig):
    """:class:`Muon` on hidden matrices and convolutions, AdamW on the rest."""

    def build(self, model: nn.Module, lr_factors: Mapping[str, float]) -> Optimizer:
        hidden = hidden_weights(model)
        groups = parameter_groups(model, lr_factors, self.weight_decay, apart=hidden)
        for group in groups:
            group["orthogonal"] = group["params"][0][0] in hidden
        device = next(p for p in model.parameters() if p.requires_grad).device
        bf16 = takes_bf16(self.precision, device)
        return Muon(groups, lr=self.lr, compute_dtype=torch.bfloat16 if bf16 else torch.float32)


OPTIMIZERS: dict[str, type[OptimizerConfig]] = {"adamw": AdamWConfig, "muon": MuonConfig}
"""Name in a config -> optimiser."""


def parameter_groups(
    model: nn.Module,
    lr_factors: Mapping[str, float],
    weight_decay: float,
    *,
    apart: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Part a model's trainable parameters into groups that are treated alike.

    Args:
        model: see :meth:`OptimizerConfig.build`.
        lr_factors: see :meth:`OptimizerConfig.build`.
        weight_decay: of tensors with two or more axes; the others get 0.
        apart: names of parameters that share no group with the others.

    Returns:
        dicts with ``params`` (pairs of name and parameter), ``weight_decay`` and ``lr_factor``.

    Raises:
        ValueError: a start in ``lr_factors`` that no trainable parameter has, or nothing to train.
    """
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("the model has no trainable parameters")
    unmatched = [s for s in lr_factors if not any(n.startswith(s) for n in trainable)]
    if unmatched:
        raise ValueError(f"lr_factors: no trainable parameter starts with {unmatched}")
    groups: dict[tuple[float, float, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in trainable.items():
        assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}: train in float32"
        start = max((s for s in lr_factors if name.startswith(s)), key=len, default=None)
        factor = 1.0 if start is None else lr_factors[start]
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor, decay, name in apart), []).append((name, parameter))
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (factor, decay, _), parameters in groups.items()
    ]


def remembered(group: Mapping[str, Any], parameter: Tensor) -> dict[str, Tensor]:
    """Say what an optimiser remembers of a parameter that has moved.

    Args:
        group: the parameter's, of an optimiser that a class of :data:`OPTIMIZERS` built.
        parameter: that is trained.

    Returns:
        name -> a tensor of the right shape and type.
    """
    step = torch.zeros((), dtype=torch.float32)
    if group.get("orthogonal"):
        return {"step": step, "momentum": parameter}
    return {"step": step, "exp_avg": parameter, "exp_avg_sq": parameter}


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give every group its factor times the rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
