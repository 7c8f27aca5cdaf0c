"""The moving average of the weights, which previews and evaluation use."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(model: nn.Module) -> AveragedModel:
    """Copy a model for averaging; the first :func:`update_ema` copies its weights once more."""
    return AveragedModel(model).eval().requires_grad_(False)


def update_ema(ema: AveragedModel, model: nn.Module, decay: float, step: int) -> None:
    """Average in the weights after step number ``step``; buffers are copied.

    Args:
        ema: from :func:`make_ema`; becomes d * average + (1 - d) * weights.
        model: what is trained.
        decay: d, at most; early steps use (1 + step) / (10 + step) where that is less, so that a
            short run is not dominated by its random start.
        step: from 1 on.
    """
    ema.multi_avg_fn = get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))
    ema.update_parameters(model)
