"""Muon: momentum whose update is made orthogonal, for weight matrices and convolutions.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the scale of Liu et al. 2025
(arXiv:2502.16982, Eq. 4): the update's root mean square is that of AdamW's, so that the two share
one learning rate and one weight decay.

It stays beside :class:`torch.optim.Muon`, which takes matrices only and multiplies in bfloat16
only (torch 2.14). By ``benchmarks/muon.py`` (figures in ``docs/benchmarks.md``) the two are one
algorithm on matrices, and about as fast where the hardware has bfloat16; with oneDNN held to
AVX2, torch's step took 32 times as long as ours in float32. With convolutions left to AdamW, a
small video VAE ended at a loss of 0.81 instead of 0.67 after equal steps, and the 3DGS decoder,
whose last layer is a convolution, at 0.135 instead of 0.121. Giving torch's the convolutions as
reshaped views repairs that, but not the precision, and it keeps its momentum under another name
than the checkpoints of earlier runs do.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

_MOMENTUM = 0.95
_RMS = 0.2
"""Root mean square of a typical AdamW update, in units of the learning rate."""


class Muon(AdamW):
    """Muon on the parameter groups with ``orthogonal: True``, AdamW on the others.

    Its state is ``momentum`` and a ``step`` of 0 for parameters of the former, AdamW's moments for
    those of the latter.

    Args:
        params: named parameter groups.
        compute_dtype: of the matrix products; bfloat16 trains as well, and is faster where the
            hardware has it.
        settings: AdamW's.
    """

    def __init__(self, params: Any, *, compute_dtype: torch.dtype = torch.float32, **settings: Any):
        super().__init__(params, **settings)
        self.compute_dtype = compute_dtype

    @torch.no_grad()
    def step(self, closure=None):
        """Move the weights; the gradients of orthogonal groups are None afterwards."""
        assert closure is None
        for group in self.param_groups:
            if not group.get("orthogonal"):
                continue
            alike: dict[tuple, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault((parameter.shape, parameter.device), []).append(parameter)
            for parameters in alike.values():  # together: a GPU waits for the launches otherwise
                self._move(parameters, group["lr"], group["weight_decay"])
        return super().step()

    def _move(self, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        """Move weights of one shape and take their gradients, so that AdamW passes them by."""
        weights: list[Tensor] = [*parameters]
        momenta, gradients = [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
                state["momentum"] = torch.zeros_like(parameter)
            momenta.append(state["momentum"])
            gradients.append(parameter.grad)
            parameter.grad = None
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        nesterov = torch.stack(torch._foreach_lerp(gradients, momenta, _MOMENTUM)).flatten(2)
        updates = orthogonal(nesterov, self.compute_dtype)
        updates *= -lr * _RMS * max(updates.shape[1:]) ** 0.5
        torch._foreach_mul_(weights, 1 - lr * weight_decay)
        torch._foreach_add_(weights, [*updates.view(-1, *weights[0].shape)])


def hidden_weights(model: nn.Module) -> set[str]:
    """Name the weights that get orthogonal updates: matrices and convolutions between layers.

    Left out are vectors, the tables of :class:`torch.nn.Embedding` (by whatever name a module
    shares one), whatever has "embed" in its name, and weights with four rows or columns at most.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2
        and id(parameter) not in tables
        and "embed" not in name  # of patches, timesteps, pooled text
        and min(parameter.shape[0], parameter[0].numel()) > 4
    }


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Push all singular values of matrices near 1: five Newton-Schulz steps of degree five.

    Args:
        matrices: [N, rows, columns] in float32.
        dtype: to multiply in; the result is float32.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(5):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return (x.mT if tall else x).float().contiguous()
